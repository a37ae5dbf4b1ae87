//! Ids of texts and conversations against transformers' (fixtures of tests/oracles/text_cases.py), per family.

use std::path::{Path, PathBuf};

use serde_json::Value;

use tickets::data::{Chat, Message};

use super::table::row;

const AGAINST: &str = "transformers 5.23.0, tokenizers 0.23.3";

/// What a folder made by text_cases.py or real_text.py holds.
pub struct Fixture {
    pub folder: PathBuf,
    texts: Vec<String>,
    pub conversations: Vec<Vec<Message>>,
}

impl Fixture {
    pub fn open(folder: &Path) -> Self {
        let corpus = read(&folder.join("corpus.json"));
        let texts: Vec<String> = serde_json::from_value(corpus["texts"].clone()).unwrap();
        let message = |pair: &Value| {
            let content = texts[pair[1].as_u64().unwrap() as usize].as_str();
            match pair[0].as_str().unwrap() {
                "system" => Message::system(content),
                "user" => Message::user(content),
                "assistant" => Message::assistant(content),
                role => panic!("{role}"),
            }
        };
        let conversations = corpus["conversations"].as_array().unwrap().iter();
        let conversations =
            conversations.map(|list| list.as_array().unwrap().iter().map(message).collect()).collect();
        Self { folder: folder.into(), texts, conversations }
    }

    pub fn family(&self, name: &str) -> Family<'_> {
        let expected = read(&self.folder.join(format!("{name}.json")));
        let rows = expected["vocab"].as_u64().unwrap() as usize;
        let chat = Chat::read(&self.folder.join(name), rows).unwrap();
        Family { fixture: self, name: name.into(), chat, expected }
    }
}

/// One family's tokenizer and template, with what is expected of them.
pub struct Family<'a> {
    fixture: &'a Fixture,
    name: String,
    pub chat: Chat,
    pub expected: Value,
}

/// How much was compared, and where it first differed.
pub struct Count {
    pub cases: usize,
    pub differ: usize,
    pub first: Option<String>,
}

impl Count {
    pub const fn new() -> Self {
        Self { cases: 0, differ: 0, first: None }
    }

    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.differ += other.differ;
        self.first = self.first.take().or(other.first);
    }

    pub fn equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        got: &T,
        expected: &T,
        what: impl Fn() -> String,
    ) {
        self.cases += 1;
        if got != expected {
            self.differ += 1;
            self.first.get_or_insert_with(|| format!("{}\n  ours   {got:?}\n  theirs {expected:?}", what()));
        }
    }

    pub fn row(&self, what: &str, against: &str) {
        if let Some(first) = &self.first {
            println!("{what}: {} of {} differ; the first: {first}", self.differ, self.cases);
        }
        row(what, against, self.cases, self.differ as f64, 0.0);
    }
}

impl Family<'_> {
    pub fn texts(&self, encoded: &mut Count, decoded: &mut Count) {
        for (index, text) in self.fixture.texts.iter().enumerate() {
            let what = || format!("{}: text {index} {text:?}", self.name);
            let expected = ids(&self.expected["ids"][index]);
            encoded.equal(&self.chat.tokenizer.encode(text).unwrap(), &expected, what);
            let back = self.expected["decoded"][index.to_string()].as_str().unwrap_or(text);
            decoded.equal(&self.chat.tokenizer.decode(&expected).unwrap().as_str(), &back, what);
        }
        for case in self.expected["noise"].as_array().unwrap() {
            let text = self.chat.tokenizer.decode(&ids(&case["ids"])).unwrap();
            decoded.equal(&text.as_str(), &case["text"].as_str().unwrap(), || {
                format!("{}: {}", self.name, case["ids"])
            });
        }
    }

    /// Whole conversations, without and with the generation prompt.
    pub fn conversations(&self, count: &mut Count) {
        for (messages, case) in self.cases() {
            let what = || format!("{}: {messages:?}", self.name);
            if case.get("refused").is_some() {
                count.equal(&self.chat.prompt(messages).is_err(), &true, what);
                continue;
            }
            let text = self.chat.template.render(messages, false).unwrap();
            let mut expected = ids(&case["ids"]);
            count.equal(&self.chat.tokenizer.encode(&text).unwrap(), &expected, what);
            expected.extend(ids(&case["opening"]));
            count.equal(&self.chat.prompt(messages).unwrap(), &expected, what);
        }
    }

    /// Conversations put together turn by turn, as rollouts do, with the answers as a model could have drawn them.
    /// Says how many of them are what transformers makes of the whole conversation, too.
    pub fn played(&self, count: &mut Count) -> usize {
        let mut as_the_whole = 0;
        for (messages, case) in self.cases() {
            let Some(kept) = case.get("kept") else { continue };
            let mut whole = ids(&case["ids"]);
            whole.extend(ids(&case["opening"]));
            as_the_whole += usize::from(kept.is_null());
            let expected = if kept.is_null() { whole } else { ids(kept) };
            count.equal(&self.stream(messages), &expected, || format!("{}: {messages:?}", self.name));
        }
        as_the_whole
    }

    fn stream(&self, messages: &[Message]) -> Vec<u32> {
        let first = usize::from(messages[0].role == "system");
        let mut stream = match first {
            0 => self.chat.opening(&messages[0].content).unwrap(),
            _ => self.chat.prompt(&messages[..2]).unwrap(),
        };
        let end = self.chat.closing().unwrap();
        for turn in (first + 1..messages.len()).step_by(2) {
            let answer = self.chat.tokenizer.encode(&messages[turn].content).unwrap();
            let told = self.chat.answer(&[answer.as_slice(), &[end]].concat()).unwrap();
            // What special tokens the text has end the answer early; all others come back as they went in.
            if !answer.iter().any(|id| self.chat.end_tokens.contains(id)) {
                assert_eq!(told, self.chat.tokenizer.decode(&answer).unwrap());
            }
            stream.extend(&answer);
            let next = &messages[turn + 1].content;
            let cut = self.chat.follow_up(&messages[..turn], next, false).unwrap();
            let drawn = self.chat.follow_up(&messages[..turn], next, true).unwrap();
            assert_eq!([&[end], drawn.as_slice()].concat(), cut);
            stream.extend(cut);
        }
        stream
    }

    fn cases(&self) -> impl Iterator<Item = (&[Message], &Value)> {
        let cases = self.expected["conversations"].as_array().unwrap();
        assert_eq!(cases.len(), self.fixture.conversations.len());
        self.fixture.conversations.iter().map(Vec::as_slice).zip(cases)
    }
}

pub fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

const FAMILIES: [&str; 3] = ["qwen2", "qwen3", "llama3"];

fn fixture() -> Fixture {
    Fixture::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/text"))
}

#[test]
fn texts_have_the_ids_of_transformers_and_come_back() {
    let fixture = fixture();
    assert!(fixture.texts.len() >= 300);
    let (mut encoded, mut decoded) = (Count::new(), Count::new());
    for name in FAMILIES {
        fixture.family(name).texts(&mut encoded, &mut decoded);
    }
    encoded.row("ids of texts, three families (unequal)", AGAINST);
    decoded.row("text of ids, three families (unequal)", AGAINST);
}

#[test]
fn conversations_have_the_ids_of_apply_chat_template() {
    let fixture = fixture();
    assert!(fixture.conversations.len() >= 150);
    let mut count = Count::new();
    for name in FAMILIES {
        fixture.family(name).conversations(&mut count);
    }
    count.row("ids of conversations, three templates (unequal)", AGAINST);
}

#[test]
fn conversations_in_turns_keep_answers_as_they_were_drawn() {
    let fixture = fixture();
    let mut count = Count::new();
    let as_the_whole: Vec<usize> =
        FAMILIES.iter().map(|name| fixture.family(name).played(&mut count)).collect();
    // The rest are answers that the template trims or takes thoughts out of, or that merge with the header before them.
    assert_eq!(as_the_whole, [132, 114, 121], "of 140 conversations each");
    count.row("ids of conversations turn by turn (unequal)", AGAINST);
}

#[test]
fn qwen3s_thoughts_stay_in_what_the_model_saw() {
    let fixture = fixture();
    let chat = fixture.family("qwen3").chat;
    let thought = "<think>\nTwelve.\n</think>\n\n144";
    let history = [Message::user("12 * 12?"), Message::assistant(thought), Message::user("sure?")];
    let mut stream = chat.opening("12 * 12?").unwrap();
    stream.extend(chat.tokenizer.encode(thought).unwrap());
    stream.extend(chat.follow_up(&history[..1], "sure?", false).unwrap());
    let text = chat.tokenizer.decode(&stream).unwrap();
    let around = |answer: &str| {
        format!(
            "<|im_start|>user\n12 * 12?<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n<|im_start|>user\nsure?\
             <|im_end|>\n<|im_start|>assistant\n"
        )
    };
    assert_eq!(text, around(thought));
    // Rendered anew the thought is gone, and the last answer of a conversation gets an empty one: neither was seen.
    assert_eq!(chat.template.render(&history, true).unwrap(), around("144"));
    let whole = [Message::user("12 * 12?"), Message::assistant("144")];
    assert!(chat.template.render(&whole, false).unwrap().contains("<think>\n\n</think>\n\n144<|im_end|>"));
}

#[test]
fn special_tokens_are_read_as_transformers_reads_them() {
    let fixture = fixture();
    let mut count = Count::new();
    for name in FAMILIES {
        let family = fixture.family(name);
        let what = || name.to_owned();
        count.equal(&family.chat.end_tokens, &ids(&family.expected["ends"]), what);
        let number = |key: &str| family.expected[key].as_u64().unwrap();
        count.equal(&u64::from(family.chat.closing().unwrap()), &number("closing"), what);
        count.equal(&(family.chat.tokenizer.vocab_size() as u64), &number("vocab"), what);
    }
    count.row("end tokens, closing token, size of the vocabulary (unequal)", AGAINST);
    // The post-processor adds a first token to bare texts; the template writes it, and it must not be there twice.
    let chat = fixture.family("llama3").chat;
    let first = chat.tokenizer.id("<|begin_of_text|>").unwrap();
    assert_eq!(chat.opening("hi").unwrap().iter().filter(|&&id| id == first).count(), 1);
    assert_eq!(chat.tokenizer.encode(" careful").unwrap().len(), 1, "a word that no merges give");
}
