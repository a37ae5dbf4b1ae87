//! Chat templates and token streams against transformers' jinja and tokenizer.

use serde_json::Value;

use tickets::data::{BUILT_IN_TEMPLATE, ChatTemplate, Message, ModelDir};

use super::oracle::{TRANSFORMERS, integers, json, path};
use super::tokens::Count;

fn messages(value: &Value) -> Vec<Message> {
    let message = |pair: &Value| {
        let role = match pair[0].as_str().unwrap() {
            "user" => "user",
            "assistant" => "assistant",
            _ => "system",
        };
        Message { role, content: pair[1].as_str().unwrap().to_owned() }
    };
    value.as_array().unwrap().iter().map(message).collect()
}

fn template(fixture: &Value, name: &str) -> ChatTemplate {
    let source = fixture["templates"][name].as_str().unwrap();
    let token = |key: &str| fixture[key].as_str().unwrap();
    ChatTemplate::new(source, name, token("bos"), token("eos")).unwrap()
}

#[test]
fn templates_render_as_in_transformers() {
    let fixture = json("chat.json");
    assert_eq!(fixture["templates"]["built_in"], BUILT_IN_TEMPLATE);
    let texts = fixture["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 40);
    let mut count = Count::new();
    for case in texts {
        let name = case["template"].as_str().unwrap();
        let generation = case["generation"].as_bool().unwrap();
        let got = template(&fixture, name).render(&messages(&case["messages"]), generation).unwrap();
        count.equal(&got.as_str(), &case["text"].as_str().unwrap(), || {
            format!("{name}: {}", case["messages"])
        });
    }
    count.row("text of conversations, small templates (unequal)", TRANSFORMERS);
    for case in fixture["refused"].as_array().unwrap() {
        let template = template(&fixture, case["template"].as_str().unwrap());
        let error = template.render(&messages(&case["messages"]), false).unwrap_err().to_string();
        assert!(error.contains(case["message"].as_str().unwrap()), "{error}");
    }
}

#[test]
fn a_conversation_in_turns_is_the_token_stream_of_the_whole() {
    // transformers tokenises the whole conversation; we put it together turn by turn, answers as they were drawn.
    let fixture = json("chat.json");
    let chat = ModelDir::open(&path("chat")).unwrap().chat().unwrap();
    let end = chat.closing().unwrap();
    assert_eq!(chat.end_tokens, [1, 2], "of config.json and of tokenizer_config.json");
    let streams = fixture["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 3);
    let mut count = Count::new();
    for case in streams {
        let messages = messages(&case["messages"]);
        let mut ids = chat.opening(&messages[0].content).unwrap();
        for turn in (1..messages.len()).step_by(2) {
            let answer = chat.tokenizer.encode(&messages[turn].content).unwrap();
            ids.extend(&answer);
            // Once the end was drawn, and once the answer was cut.
            let history = &messages[..turn];
            let next = &messages[turn + 1].content;
            let drawn = chat.follow_up(history, next, true).unwrap();
            let cut = chat.follow_up(history, next, false).unwrap();
            assert_eq!([&[end], drawn.as_slice()].concat(), cut);
            ids.extend(cut);
        }
        let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
        count.equal(&ids, &integers(&case["ids"]), || case["messages"].to_string());
    }
    count.row("ids of whole conversations turn by turn, built-in template (unequal)", TRANSFORMERS);
}
