use super::*;

const ENOUGH: Enough = Enough { demonstrations: 30, labelled: 20, prompts: 10, held_out: 5 };

fn review(number: usize) -> Example {
    Example::Labelled {
        text: format!("film {number} is one of many"),
        label: number.is_multiple_of(2),
    }
}

fn answered(number: usize) -> Example {
    Example::Demonstration {
        prompt: Passage::of_text(format!("question {number}")),
        chosen: Passage::of_text(format!("answer {number}")),
        extras: Extras::default(),
    }
}

fn compared(number: usize) -> Example {
    Example::Preference {
        prompt: Passage::of_text(format!("question {number}")),
        chosen: Passage::of_text(format!("answer {number}")),
        rejected: Passage::of_text(format!("other {number}")),
        extras: Extras::default(),
    }
}

/// The records of many examples, and how many of the examples were looked at.
fn records(kind: SetKind, train: Vec<Example>, enough: Enough) -> (Records, usize) {
    let lengths =
        Lengths { max_prompt_tokens: 0, max_answer_tokens: 0, opening_tokens: 3, review_tokens: 0 };
    let held_out = train.iter().rev().take(2000).cloned().collect();
    let mut published = Published { train, held_out, ..Published::default() };
    let shape = Shape { kind, tokenizer: None, lengths };
    let records = shape.records(&mut published, enough).unwrap();
    (records, published.looked_at)
}

#[test]
fn no_more_examples_are_looked_at_than_sizes_need_and_the_records_are_the_same() {
    for (kind, example) in [
        (SetKind::Reviews, review as fn(usize) -> Example),
        (SetKind::Instructions, answered),
        (SetKind::Dialogues, compared),
    ] {
        let train = || (0..9000).map(example).collect();
        let (all, looked_at) = records(kind, train(), Enough::ALL);
        assert_eq!(looked_at, 11_000);
        // Demonstrations have no labels, and are never enough where some are asked for.
        let labelled = if kind == SetKind::Instructions { 0 } else { ENOUGH.labelled };
        let (some, looked_at) = records(kind, train(), Enough { labelled, ..ENOUGH });
        assert_eq!(looked_at, 2 * 1024, "the first of each split");
        let same = |all: &[Value], some: &[Value], count: usize| {
            assert_eq!(all[..count.min(all.len())], some[..count.min(all.len())]);
        };
        same(&all.demonstrations, &some.demonstrations, ENOUGH.demonstrations);
        same(&all.labelled, &some.labelled, ENOUGH.labelled);
        same(&all.prompts, &some.prompts, ENOUGH.prompts);
        same(&all.held_out, &some.held_out, ENOUGH.held_out);
        same(&all.chosen, &some.chosen, ENOUGH.held_out);
    }
}

#[test]
fn examples_that_others_could_change_are_all_looked_at() {
    let posts = (0..3000).map(answered).collect();
    assert_eq!(records(SetKind::Posts, posts, ENOUGH).1, 5000);
    let mixed = (0..3000).map(|i| if i == 2990 { compared(i) } else { answered(i) }).collect();
    let (records, looked_at) = records(SetKind::Instructions, mixed, ENOUGH);
    assert_eq!(looked_at, 5000);
    assert_eq!(records.labelled.len(), 1);
}
