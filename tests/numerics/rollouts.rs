//! Rollouts: a conversation does not depend on its company, its tokens are what the model saw, and the recorded
//! logprobs are those that training computes.

use tickets::counter::Counter;
use tickets::data::Message;
use tickets::grpo::SamplingSpec;
use tickets::torch::{Completion, Draws, Row, generate, play, score};

use super::support::{chat, episodes, model, sampling, task};

const DRAWS: Draws = Draws { seed: 5, stream: "train", step: 4 };

/// Batched products sum in another order; with logits of size 10 a logprob is off by a few 1e-6, and by 1.4e-5 without vector
/// instructions.
const ROUNDING: f32 = 2e-5;

fn same(left: &[f32], right: &[f32], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    for (a, b) in left.iter().zip(right) {
        assert!((a - b).abs() <= tolerance, "{a} and {b}");
    }
}

/// Every filter at once, and each by itself.
fn samplings() -> Vec<SamplingSpec> {
    let plain = sampling(12);
    vec![
        plain.clone(),
        SamplingSpec { temperature: 0.7, ..plain.clone() },
        SamplingSpec { temperature: 0.0, ..plain.clone() },
        SamplingSpec { top_p: 0.8, top_k: 50, min_p: 0.01, ..plain.clone() },
        SamplingSpec { repetition_penalty: 1.2, ..plain },
    ]
}

#[test]
fn a_conversation_does_not_depend_on_its_company() {
    let (task, model) = (task(), model(true, 0.4));
    let chat = chat(&task, 9);
    let episodes = episodes(&task, 6);
    for sampling in samplings() {
        let together = play(&model, &chat, &task, &episodes, 4, &sampling, DRAWS).unwrap();
        let alone = play(&model, &chat, &task, &episodes[..1], 4, &sampling, DRAWS).unwrap();
        let fewer = play(&model, &chat, &task, &episodes[..3], 4, &sampling, DRAWS).unwrap();
        for part in [alone, fewer] {
            for (a, b) in part.iter().zip(&together) {
                assert_eq!(a.tokens, b.tokens);
                assert_eq!(a.drawn, b.drawn);
                assert_eq!((&a.answers, a.reward), (&b.answers, b.reward));
                same(&a.logprobs, &b.logprobs, ROUNDING);
            }
        }
        if sampling.temperature > 0.0 {
            assert!(together.iter().any(|rollout| rollout.truncated > 0), "some answers are cut");
            assert!(together.chunks(4).any(|group| group[0].tokens != group[1].tokens), "draws differ");
        }
        assert!(together.iter().any(|rollout| rollout.truncated < rollout.answers.len()), "some answers end");
        assert_eq!(together, play(&model, &chat, &task, &episodes, 4, &sampling, DRAWS).unwrap());
    }
}

#[test]
fn draws_are_named_by_seed_stream_and_step() {
    let (task, model) = (task(), model(true, 0.4));
    let (chat, episodes) = (chat(&task, 9), episodes(&task, 2));
    let tokens = |draws| {
        let rollouts = play(&model, &chat, &task, &episodes, 2, &sampling(12), draws).unwrap();
        rollouts.into_iter().flat_map(|rollout| rollout.tokens).collect::<Vec<u32>>()
    };
    let first = tokens(DRAWS);
    assert_eq!(first, tokens(DRAWS));
    for other in [Draws { seed: 6, ..DRAWS }, Draws { stream: "eval", ..DRAWS }, Draws { step: 5, ..DRAWS }] {
        assert_ne!(first, tokens(other));
    }
}

#[test]
fn recorded_logprobs_are_the_training_forwards() {
    let (task, model) = (task(), model(false, 0.4));
    let (chat, episodes) = (chat(&task, 9), episodes(&task, 6));
    for sampling in samplings() {
        let temperature = if sampling.temperature == 0.0 { 1.0 } else { sampling.temperature };
        let rollouts = play(&model, &chat, &task, &episodes, 2, &sampling, DRAWS).unwrap();
        for micro_batch in [1, 5, 12] {
            let scored = score(&model, &rollouts, temperature, micro_batch).unwrap();
            for (rollout, scored) in rollouts.iter().zip(&scored) {
                let recorded: Vec<f32> = rollout
                    .logprobs
                    .iter()
                    .zip(&rollout.drawn)
                    .filter(|(_, drawn)| **drawn)
                    .map(|(logprob, _)| *logprob)
                    .collect();
                assert_eq!(recorded.len(), rollout.length());
                same(&recorded, scored, 1e-4);
            }
        }
    }
}

#[test]
fn token_streams_are_exact_concatenations() {
    let (task, model) = (task(), model(true, 0.4));
    let (chat, episodes) = (chat(&task, 9), episodes(&task, 12));
    let rollouts = play(&model, &chat, &task, &episodes, 2, &sampling(12), DRAWS).unwrap();
    let mut seen = [0; 2];
    for (row, rollout) in rollouts.iter().enumerate() {
        let episode = &episodes[row / 2];
        assert_eq!(rollout.answers.len(), episode.turns.len());
        assert_eq!(
            (rollout.tokens.len(), rollout.tokens.len()),
            (rollout.drawn.len(), rollout.logprobs.len())
        );
        let (mut at, mut history, mut ended) = (0, Vec::new(), false);
        for (turn, step) in episode.turns.iter().enumerate() {
            // What the template puts between the answers, cut out of the whole conversation as it renders it.
            let mut messages: Vec<Message> = history.clone();
            messages.push(Message::user(step.prompt.clone()));
            let mut given = chat.template.render(&messages, true).unwrap();
            if turn > 0 {
                given = given[chat.template.render(&history, false).unwrap().len()..].to_owned();
                given = format!("{}{given}", if ended { "" } else { "<|end|>" });
            }
            let given = chat.tokenizer.encode(&given).unwrap();
            assert_eq!(&rollout.tokens[at..at + given.len()], given.as_slice(), "turn {turn}");
            assert!(rollout.drawn[at..at + given.len()].iter().all(|drawn| !drawn));
            at += given.len();
            let length = rollout.drawn[at..].iter().take_while(|drawn| **drawn).count();
            let answer = &rollout.tokens[at..at + length];
            ended = chat.end_tokens.contains(answer.last().unwrap());
            let text = answer.len() - usize::from(ended);
            assert!(answer[..text].iter().all(|token| !chat.end_tokens.contains(token)));
            assert!(ended || length == 12);
            assert_eq!(rollout.answers[turn], chat.tokenizer.decode(&answer[..text]).unwrap());
            seen[usize::from(ended)] += usize::from(turn + 1 < episode.turns.len());
            history.extend([
                Message::user(step.prompt.clone()),
                Message::assistant(rollout.answers[turn].clone()),
            ]);
            at += length;
        }
        assert_eq!(at, rollout.tokens.len());
        assert!(
            rollout.logprobs.iter().zip(&rollout.drawn).all(|(logprob, drawn)| *drawn || *logprob == 0.0)
        );
    }
    assert!(seen.iter().all(|&count| count > 3), "follow-ups after cut and after ended answers: {seen:?}");
}

/// Completes `owners.len()` rows; row i owns context `owners[i]` and draws from counter i.
fn complete(contexts: &[Vec<u32>], owners: &[(usize, u64)], sampling: &SamplingSpec) -> Vec<Completion> {
    let model = model(true, 0.4);
    let mut counters: Vec<Counter> =
        owners.iter().map(|(_, id)| Counter::new(1, "test/generate", &[*id])).collect();
    let mut rows: Vec<Row<'_>> = owners
        .iter()
        .zip(&mut counters)
        .map(|((context, _), counter)| Row { context: *context, counter, first_draw: 7 })
        .collect();
    // One token in eight ends an answer, so rows finish at all lengths and the batch is compacted several times.
    let ends: Vec<u32> = (0..280).step_by(8).collect();
    generate(&model, contexts, &mut rows, sampling, &ends).unwrap()
}

fn context(id: u64, length: u64) -> Vec<u32> {
    let mut counter = Counter::new(2, "test/context", &[id]);
    (0..length).map(|_| counter.below(280) as u32).collect()
}

fn equal(left: &Completion, right: &Completion) {
    assert_eq!((&left.tokens, left.ended), (&right.tokens, right.ended));
    same(&left.logprobs, &right.logprobs, ROUNDING);
}

#[test]
fn padding_compaction_and_shared_prefill_change_nothing() {
    for sampling in samplings() {
        let sampling = SamplingSpec { max_tokens: 40, ..sampling };
        // Lengths 1 to 33: the shortest row is padded by 32.
        let contexts: Vec<Vec<u32>> =
            [1, 4, 9, 33, 17].into_iter().zip(0..).map(|(length, id)| context(id, length)).collect();
        let owners: Vec<(usize, u64)> = (0..20).map(|row| ((row % 5) as usize, row)).collect();
        let together = complete(&contexts, &owners, &sampling);
        let lengths: Vec<usize> = together.iter().map(|completion| completion.tokens.len()).collect();
        if sampling.temperature > 0.0 {
            assert!(lengths.iter().min() < lengths.iter().max(), "rows end at different times: {lengths:?}");
        }
        // A row alone is neither padded nor compacted, and its prefill is its own.
        for (row, (owner, id)) in owners.iter().enumerate() {
            let alone = complete(&[contexts[*owner].clone()], &[(0, *id)], &sampling);
            equal(&alone[0], &together[row]);
        }
        // Every row with a prefill of its own.
        let copies: Vec<Vec<u32>> = owners.iter().map(|(owner, _)| contexts[*owner].clone()).collect();
        let own: Vec<(usize, u64)> = owners.iter().zip(0..).map(|((_, id), row)| (row, *id)).collect();
        for (a, b) in complete(&copies, &own, &sampling).iter().zip(&together) {
            equal(a, b);
        }
    }
}

#[test]
fn a_turn_may_be_one_token_and_its_first_may_be_the_last() {
    let contexts = vec![context(0, 5)];
    let owners: Vec<(usize, u64)> = (0..64).map(|row| (0, row)).collect();
    for completion in complete(&contexts, &owners, &sampling(1)) {
        assert_eq!((completion.tokens.len(), completion.logprobs.len()), (1, 1));
        assert_eq!(completion.ended, completion.tokens[0] % 8 == 0);
    }
    let longer = complete(&contexts, &owners, &sampling(9));
    assert!(longer.iter().any(|completion| completion.tokens.len() == 1 && completion.ended));
    assert!(complete(&contexts, &[], &sampling(9)).is_empty());
}

#[test]
fn an_empty_prompt_and_one_beyond_the_positions_are_refused() {
    let model = model(true, 0.4);
    let refused = |length| {
        let mut counter = Counter::new(1, "test/generate", &[0]);
        let mut rows = [Row { context: 0, counter: &mut counter, first_draw: 0 }];
        generate(&model, &[context(0, length)], &mut rows, &sampling(9), &[0]).unwrap_err().to_string()
    };
    assert!(refused(0).contains("the prompt is empty"));
    let message = refused(2040);
    assert!(message.contains("2049") && message.contains("2048"), "{message}");
}
