//! Grades of a language model behind an endpoint that speaks the OpenAI API, each completion alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::Reward;
use super::kind::Kind;
use crate::data::{Group, Intake, Located, Tolerance};
use crate::files::{cache_folder, hash_file};
use crate::judges::{Answered, Grader};
use crate::secrets::redact;
use crate::{Error, Result};

/// `openai:URL`
pub const KIND: Kind = Kind {
    name: "openai",
    argument: "URL",
    check: |_| Ok(()),
    title: |_| "openai".to_owned(),
    shaping: |url, settings| {
        let mut judge = json!(settings.judge);
        if let Some(fields) = judge.as_object_mut() {
            fields.retain(|key, _| SHAPING.contains(&key.as_str()));
        }
        json!({ "url": redact(url), "judge": judge, "template": settings.reward.template })
    },
    content: |_, settings| {
        let template = Path::new(&settings.reward.template);
        match template.is_file() {
            true => Ok([("reward.template".to_owned(), hash_file(template)?)].into()),
            false => Ok(BTreeMap::new()),
        }
    },
    // Its answers are kept where everything else is.
    open: |url, opening| {
        let (judge, reward) = (&opening.settings.judge, &opening.settings.reward);
        let grader = Grader::new(url, judge, &reward.template, &cache_folder())?;
        Ok(Box::new(Graded { grader }))
    },
};

/// The settings that grades depend on; how they are asked for does not count.
const SHAPING: [&str; 5] = ["model", "extra", "temperature", "max_tokens", "max_completion_tokens"];

struct Graded {
    grader: Grader,
}

/// The words of a prompt and of its completions.
type Words = (String, Vec<String>);

impl Reward for Graded {
    fn look_at(&self, group: &Located<Group>, _: &mut Intake) -> Result<usize> {
        words(group).map(|_| 0)
    }

    fn score(&mut self, groups: &[Located<Group>]) -> Result<Vec<Vec<f64>>> {
        let all = self.score_within(groups, &mut Tolerance::none())?;
        Ok(all.into_iter().flatten().collect())
    }

    fn score_within(
        &mut self,
        groups: &[Located<Group>],
        tolerance: &mut Tolerance,
    ) -> Result<Vec<Option<Vec<f64>>>> {
        let words: Vec<Words> = groups.iter().map(words).collect::<Result<_>>()?;
        let mut answers = Vec::new();
        // Of every answer: its group, and its number among the completions.
        let mut places = Vec::new();
        for (index, (group, (prompt, completions))) in groups.iter().zip(&words).enumerate() {
            for (completion, number) in completions.iter().zip(1..) {
                places.push((index, number));
                answers.push(Answered {
                    name: format!("{}:{}, completion {number}", group.file.display(), group.line),
                    prompt,
                    completion,
                    others: &group.record.others,
                });
            }
        }
        let mut is_refused = vec![false; groups.len()];
        let refuse = |answer: usize, why: &str| {
            let (index, number) = places[answer];
            match std::mem::replace(&mut is_refused[index], true) {
                true => Ok(()),
                false => {
                    tolerance.refuse(groups[index].error(format!("completion {number}: {why}")))
                }
            }
        };
        let mut grades = self.grader.grade(&answers, refuse)?.into_iter();
        let of_group = |(_, completions): &Words| {
            let grades: Vec<Option<f64>> = grades.by_ref().take(completions.len()).collect();
            grades.into_iter().collect()
        };
        Ok(words.iter().map(of_group).collect())
    }
}

/// What a grader reads of a group.
fn words(group: &Located<Group>) -> Result<Words> {
    let refused = || -> Error {
        group.error(
            "`completions`: expected a prompt and completions as text, found token ids alone; an endpoint \
             reads text only",
        )
    };
    let prompt = group.record.prompt.words().ok_or_else(refused)?;
    let completions = group.record.completions.iter();
    let completions = completions.map(|it| it.passage.words().ok_or_else(refused));
    Ok((prompt, completions.collect::<Result<_>>()?))
}
