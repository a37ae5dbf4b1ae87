//! What of a program's answers is taken and what is refused, and how that is said.

use serde_json::{Value, json};

use super::error::Trouble;
use super::reply::{Counts, Hello, episode, items, response, reward};

fn said(trouble: Trouble) -> String {
    match trouble {
        Trouble::Shape(what) => what,
        Trouble::Reward { what, is } => format!("{what} is {is}"),
        Trouble::Version(version) => format!("version {version}"),
        other => format!("{other:?}"),
    }
}

fn hello(value: &Value) -> Result<Hello, String> {
    Hello::read(value).map_err(said)
}

#[test]
fn a_program_says_little_and_the_rest_is_usual() {
    let least = hello(&json!({"protocol": 1, "name": "x", "more": [1]})).expect("a hello");
    let usual = Hello {
        name: "x".to_owned(),
        version: String::new(),
        episodes: Counts { train: None, eval: None },
        range: (0.0, 1.0),
        turns: 1,
    };
    assert_eq!(least, usual);
    assert_eq!(least.to_string(), "x, any number of episodes of one turn, rewards from 0 to 1");
    let full = json!({
        "protocol": 1, "name": "x", "version": "2", "episodes": {"train": 9, "eval": 3}, "range": [-1, 0.5], "turns": 4
    });
    let full = hello(&full).expect("a hello");
    assert_eq!(
        (full.episodes.of("train"), full.episodes.of("fisher"), full.episodes.of("eval")),
        (Some(9), Some(9), Some(3))
    );
    assert_eq!(
        full.to_string(),
        "x 2, 9 and for evaluations 3 episodes of at most 4 turns, rewards from -1 to 0.5"
    );
}

#[test]
fn a_hello_that_does_not_serve_is_refused() {
    let with = |key: &str, value: Value| {
        let mut whole = json!({"protocol": 1, "name": "x"});
        whole[key] = value;
        hello(&whole).expect_err("refused")
    };
    assert_eq!(hello(&json!({"name": "x"})), Err("it has no `protocol`".to_owned()));
    assert_eq!(hello(&json!({"protocol": 1})), Err("it has no `name`".to_owned()));
    assert_eq!(with("protocol", json!(2)), "version 2");
    assert_eq!(with("protocol", json!("1")), "version \"1\"");
    assert_eq!(with("name", json!(" ")), "`name` is empty");
    assert_eq!(with("version", json!(1)), "`version` of it is 1 and should be a text");
    assert_eq!(with("episodes", json!(0)), "`episodes` is 0: a task has at least one episode");
    assert_eq!(
        with("episodes", json!({"eval": -1})),
        "`episodes.eval` is -1 and should be null or a whole number"
    );
    for range in [json!([1, 0]), json!([0, 0]), json!([0]), json!(1), json!([0, "1"])] {
        let expected = format!("`range` is {range} and should be two numbers, the smaller one first");
        assert_eq!(with("range", range), expected);
    }
    assert_eq!(with("turns", json!(0)), "`turns` is 0 and should be a whole number, at least 1");
}

#[test]
fn an_episode_is_its_last_message_and_what_stands_before() {
    let whole = json!({
        "name": "row 7", "more": 1, "expected": ["a", "b"], "info": {"k": [1, 2.5]},
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p", "weight": 1}]
    });
    let whole = episode(&whole, "train 3".to_owned()).expect("an episode");
    assert_eq!(whole.name, "row 7");
    assert_eq!((whole.before.len(), whole.before[0].role), (1, "system"));
    assert_eq!((whole.turns.len(), whole.turns[0].prompt.as_str()), (1, "p"));
    assert_eq!(whole.turns[0].expected, ["a", "b"]);
    assert_eq!(whole.info, json!({"k": [1, 2.5]}));
    let least = episode(&json!({"messages": [{"role": "user", "content": ""}]}), "train 3".to_owned());
    let least = least.expect("an episode");
    assert_eq!((least.name.as_str(), &least.info), ("train 3", &Value::Null));
}

#[test]
fn an_episode_that_does_not_serve_is_named() {
    let refused = |value: Value| said(episode(&value, "train 3".to_owned()).expect_err("refused"));
    let user = json!({"role": "user", "content": "p"});
    assert_eq!(refused(json!("x")), "episode train 3 is the text \"x\" and should be an object");
    assert_eq!(refused(json!({})), "episode train 3 has no `messages`");
    let end = "the messages of episode train 3 should end with one of role `user`";
    assert_eq!(refused(json!({"messages": []})), end);
    assert_eq!(refused(json!({"messages": [user, {"role": "assistant", "content": "a"}]})), end);
    assert_eq!(
        refused(json!({"name": "row 7", "messages": [{"role": "tool", "content": "a"}, user]})),
        "a message of episode row 7 has the role \"tool\" and should have `system`, `user` or `assistant`"
    );
    assert_eq!(
        refused(json!({"messages": [{"role": "user", "content": ["p"]}]})),
        "`content` of a message of episode train 3 is a list and should be a text"
    );
    assert_eq!(
        refused(json!({"messages": [user], "expected": "a"})),
        "`expected` of episode train 3 is the text \"a\" and should be a list of texts"
    );
    let bare = super::wire::parse(br#"{"messages": [{"role": "user", "content": "p"}], "info": {"x": NaN}}"#);
    assert_eq!(refused(bare.expect("parsed")), "episode train 3 holds NaN, which JSON does not have");
}

#[test]
fn lists_have_an_entry_for_everything_asked() {
    let of = |value: Value| items(&value, "rewards", 2).map(<[Value]>::len).map_err(said);
    assert_eq!(of(json!({"rewards": [1, 2]})), Ok(2));
    assert_eq!(of(json!({"rewards": [1]})), Err("`rewards` has 1 entries and should have 2".to_owned()));
    assert_eq!(of(json!({"rewards": {}})), Err("`rewards` is an object and should be a list".to_owned()));
    assert_eq!(of(json!({})), Err("it has no `rewards`".to_owned()));
    assert_eq!(response(&json!(null), "e").map_err(said), Ok(None));
    assert_eq!(response(&json!(""), "e").map_err(said), Ok(Some(String::new())));
    let refused = "the response in episode e is 3 and should be a text, or null at the end";
    assert_eq!(response(&json!(3), "e").map_err(said), Err(refused.to_owned()));
}

#[test]
fn rewards_are_numbers_in_range() {
    let of = |text: &str| {
        let reply = super::wire::parse(format!("{{\"r\": {text}}}").as_bytes()).expect("parsed");
        reward(&reply["r"], "train 3", 2, (0.0, 1.0)).map_err(said)
    };
    assert_eq!(of("1").expect("a reward").total, 1.0);
    let full = of(r#"{"reward": 0.1, "turns": [0, -7], "parts": {"form": 2, "sum": 1e3}, "more": 1}"#);
    let full = full.expect("a reward");
    assert_eq!((full.total, full.turns), (0.1, vec![0.0, -7.0]));
    assert_eq!(full.parts, [("form".to_owned(), 2.0), ("sum".to_owned(), 1000.0)]);
    for (text, refusal) in [
        ("NaN", "the reward of episode train 3 is NaN"),
        (r#"{"reward": -Infinity}"#, "the reward of episode train 3 is -Infinity"),
        (r#"{"reward": 1, "turns": [1, NaN]}"#, "turn 2 of the reward of episode train 3 is NaN"),
        (
            r#"{"reward": 1, "parts": {"f": Infinity}}"#,
            "part `f` of the reward of episode train 3 is Infinity",
        ),
        ("\"0.5\"", "the reward of episode train 3 is the text \"0.5\", which is not a number"),
        ("null", "the reward of episode train 3 is null, which is not a number"),
        ("true", "the reward of episode train 3 is true, which is not a number"),
        ("1.5", "the reward of episode train 3 is 1.5, which is outside of the range from 0 to 1"),
        ("-1e-9", "the reward of episode train 3 is -0.000000001, which is outside of the range from 0 to 1"),
        ("{}", "the reward of episode train 3 has no `reward`"),
        (
            r#"{"reward": 1, "turns": [1]}"#,
            "`turns` of the reward of episode train 3 should be a list of 2 numbers, one for each answer",
        ),
    ] {
        assert_eq!(of(text), Err(refusal.to_owned()), "{text}");
    }
}
