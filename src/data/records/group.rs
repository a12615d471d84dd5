//! A prompt with its completions, and preferences as groups of two.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::carried::{carried, write_carried};
use super::forms::{self, PROMPT};
use super::passage::{write_passage, write_prompt};
use super::{Completion, Passage, Record};
use crate::data::fields::wrong;
use crate::data::{Fields, Problem};

/// A prompt with its K completions: `prompt`, `completions`, `rewards`, or `prompt`, `chosen`,
/// `rejected`, which is a group of two with the chosen first and rewards 1 and 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// `id`, carried through.
    pub id: Option<Value>,
    /// `prompt`, `prompt_ids`.
    pub prompt: Passage,
    /// `completions`, `completion_ids`, `finished`.
    pub completions: Vec<Completion>,
    /// `rewards`, finite, one a completion; absent before labelling.
    pub rewards: Option<Vec<f64>>,
    /// `log_probs`, one a token of `completion_ids`, under the distribution that the completions were drawn
    /// from; absent: they were drawn from the reference.
    pub log_probs: Option<Vec<Vec<f32>>>,
    /// `reward_parts`: by the name of each reward, what it gave every completion before it was weighted.
    pub reward_parts: Vec<(String, Vec<f64>)>,
    /// Fields that have no meaning here, such as `answer`, in their order: they are carried through, and
    /// programs and rules that give rewards read them.
    pub others: Map<String, Value>,
    /// Whether the record calls its completions `chosen` and `rejected`.
    pub is_preference: bool,
}

/// The rewards of a preference.
const PREFERENCE: [f64; 2] = [1.0, 0.0];

impl Record for Group {
    fn reads() -> Vec<&'static str> {
        let own =
            ["completions", "completion_ids", "finished", "rewards", "reward_parts", "log_probs"];
        let pair = ["chosen", "chosen_ids", "rejected", "rejected_ids"];
        [&PROMPT[..], &own, &pair].concat()
    }

    fn idle(fields: &Fields) -> Vec<&'static str> {
        forms::idle(fields)
    }

    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        forms::refuse_meant(fields)?;
        let group = ["completions", "completion_ids"].iter().any(|name| fields.has(name));
        let pair = ["chosen", "chosen_ids", "rejected", "rejected_ids"];
        if !group && pair.iter().any(|name| fields.has(name)) {
            return Self::from_preference(fields);
        }
        let is_flat = |ids: &Vec<Value>| !ids.is_empty() && ids.iter().all(Value::is_number);
        let single_ids =
            fields.get("completion_ids").and_then(Value::as_array).is_some_and(is_flat);
        if !group && fields.has("completion") || single_ids && fields.has("label") {
            return Err(refused_single(fields));
        }
        if !fields.has("rewards") && is_stepwise(fields) {
            return Err("`labels`: expected no labels of steps, found stepwise supervision; \
                        its `completions` are steps of one answer, which no objective here compares: give \
                        `rewards`, or drop the file"
                .to_owned());
        }
        // A completion may lack its text where it has ids, and the other way round.
        let texts = fields.passages("completions", fields.has("completion_ids"))?;
        let ids = fields.id_lists("completion_ids", fields.has("completions"))?;
        let k = texts.as_ref().map(Vec::len).or(ids.as_ref().map(Vec::len));
        let Some(k) = k else {
            return Err(fields.missing(
                "completions",
                "a list of strings",
                "write `completions`, `completion_ids`, or `chosen` and `rejected`",
            ));
        };
        if k == 0 {
            let remedy = "drop the record";
            return Err(wrong("completions", "at least one completion", &json!([]), remedy));
        }
        same_length("completion_ids", ids.as_ref().map(Vec::len), k)?;
        let finished = fields.flags("finished")?;
        same_length("finished", finished.as_ref().map(Vec::len), k)?;
        let rewards = fields.numbers("rewards")?;
        same_length("rewards", rewards.as_ref().map(Vec::len), k)?;
        let log_probs = fields.number_lists("log_probs")?;
        same_length("log_probs", log_probs.as_ref().map(Vec::len), k)?;
        let reward_parts = reward_parts(fields, k)?;

        let texts = texts.unwrap_or_else(|| vec![Passage::default(); k]);
        let ids = ids.unwrap_or_else(|| vec![None; k]);
        let answers = texts.into_iter().zip(ids).enumerate();
        let answers = answers
            .map(|(i, (passage, ids))| (format!("completions[{i}]"), Passage { ids, ..passage }))
            .collect();
        let (prompt, answers) = forms::parted(fields, answers)?;
        let finished = finished.unwrap_or_else(|| vec![true; k]);
        let completions = answers.into_iter().zip(finished).enumerate();
        let completions = completions
            .map(|(i, (passage, finished))| {
                Completion { passage, finished }.checked(&format!("completions[{i}]"))
            })
            .collect::<Result<_, _>>()?;
        let (id, others, is_preference) = (fields.id(), carried(fields), false);
        Ok(Self {
            id,
            prompt,
            completions,
            rewards,
            reward_parts,
            log_probs,
            others,
            is_preference,
        })
    }
}

/// `reward_parts`, an object of lists with one number a completion.
fn reward_parts(fields: &Fields, k: usize) -> Result<Vec<(String, Vec<f64>)>, Problem> {
    const NAME: &str = "reward_parts";
    let parts = match fields.get(NAME) {
        None => return Ok(Vec::new()),
        Some(Value::Object(parts)) => parts,
        Some(other) => {
            return Err(wrong(NAME, "an object of lists", other, "correct or drop the field"));
        }
    };
    let of_parts = Fields::from(parts.clone());
    parts
        .keys()
        .map(|name| {
            let numbers =
                of_parts.numbers(name).map_err(|problem| format!("`{NAME}`: {problem}"))?;
            let numbers = numbers.unwrap_or_default();
            same_length(&format!("{NAME}.{name}"), Some(numbers.len()), k)?;
            Ok((name.clone(), numbers))
        })
        .collect()
}

/// Labels of steps: truth values, one a completion. Labels of people are words or numbers.
fn is_stepwise(fields: &Fields) -> bool {
    let labels = fields.get("labels").and_then(Value::as_array);
    labels.is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_boolean))
}

/// A single completion where several are compared.
fn refused_single(fields: &Fields) -> Problem {
    match fields.has("label") {
        true => "`label`: expected `chosen` and `rejected`, or `completions` with `rewards`, found a \
                 completion with a label of its own (unpaired preferences); nothing compares them with \
                 another: align on them with `--objective kto`, or train a classifier of them with \
                 `exalign reward` and label groups with it"
            .to_owned(),
        false => fields.missing(
            "rejected",
            "another completion to compare with",
            "write `chosen` and `rejected`, or `completions` with `rewards`",
        ),
    }
}

pub(super) fn same_length(field: &str, found: Option<usize>, k: usize) -> Result<(), Problem> {
    match found {
        Some(found) if found != k => Err(format!(
            "`{field}`: expected {k}, one a completion, found {found}; correct or drop the record"
        )),
        _ => Ok(()),
    }
}

impl Group {
    /// A preference: the chosen first, rewards 1 and 0.
    pub fn preference(
        id: Option<Value>,
        prompt: Passage,
        chosen: Completion,
        rejected: Completion,
    ) -> Self {
        let (completions, rewards) = (vec![chosen, rejected], Some(PREFERENCE.to_vec()));
        Self { id, prompt, completions, rewards, is_preference: true, ..Self::default() }
    }

    fn from_preference(fields: &Fields) -> Result<Self, Problem> {
        let finished = fields.flags("finished")?;
        same_length("finished", finished.as_ref().map(Vec::len), 2)?;
        let chosen = forms::required_side(fields, "chosen", "chosen_ids")?;
        let rejected = forms::required_side(fields, "rejected", "rejected_ids")?;
        if chosen.is_same(&rejected) {
            return Err("`chosen` and `rejected` are the same text; drop the pair".to_owned());
        }
        let sides = vec![("chosen".to_owned(), chosen), ("rejected".to_owned(), rejected)];
        let (prompt, sides) = forms::parted(fields, sides)?;
        let finished = finished.unwrap_or_else(|| vec![true; 2]);
        let mut sides = sides
            .into_iter()
            .zip(finished)
            .zip(["chosen", "rejected"])
            .map(|((passage, finished), name)| Completion { passage, finished }.checked(name));
        let mut next = || sides.next().unwrap_or_else(|| Err(forms::no_prompt(fields)));
        let pair = Self::preference(fields.id(), prompt, next()?, next()?);
        Ok(Self { others: carried(fields), ..pair })
    }

    /// What a message calls completion `i`: `chosen` and `rejected` of a preference,
    /// `completions[i]` otherwise.
    pub fn completion_field(&self, i: usize) -> String {
        match i {
            _ if !self.is_preference => format!("completions[{i}]"),
            0 => "chosen".to_owned(),
            _ => "rejected".to_owned(),
        }
    }

    /// Refuses what no objective can learn from: fewer than two completions, rewards that are
    /// missing, too few or not finite, and pairs that are tied or twice the same.
    pub fn check_for_alignment(&self) -> Result<(), Problem> {
        let k = self.completions.len();
        if k < 2 {
            return Err(format!(
                "`completions`: expected at least 2, found {k}; an objective compares the \
                 completions of a prompt: drop the record"
            ));
        }
        self.check_rewards()?;
        if let Some(rewards) = self.rewards.as_ref().filter(|_| k == 2) {
            let (one, two) = (&self.completions[0].passage, &self.completions[1].passage);
            if one.is_same(two) {
                let (one, two) = (self.completion_field(0), self.completion_field(1));
                return Err(format!("`{one}` and `{two}` are the same text; drop the pair"));
            }
            if rewards[0] == rewards[1] {
                return Err(format!(
                    "`rewards`: expected two different numbers, found {} twice; drop the pair",
                    rewards[0]
                ));
            }
        }
        Ok(())
    }

    /// Refuses rewards that are missing, too few or not finite.
    pub(super) fn check_rewards(&self) -> Result<(), Problem> {
        let k = self.completions.len();
        let Some(rewards) = &self.rewards else {
            return Err(format!(
                "`rewards`: expected {k} numbers, found none; add them with `exalign label`"
            ));
        };
        same_length("rewards", Some(rewards.len()), k)?;
        match rewards.iter().enumerate().find(|(_, reward)| !reward.is_finite()) {
            None => Ok(()),
            Some((i, reward)) => Err(format!(
                "`rewards[{i}]`: expected a finite number, found {reward}; correct or drop the record"
            )),
        }
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_prompt(&mut map, self.id.as_ref(), &self.prompt)?;
        let passages = || self.completions.iter().map(|completion| &completion.passage);
        if passages().any(|passage| passage.text.is_some() || passage.conversation.is_some()) {
            let texts: Vec<Value> = passages().map(Passage::value).collect();
            map.serialize_entry("completions", &texts)?;
        }
        if passages().any(|passage| passage.ids.is_some()) {
            let ids: Vec<_> = passages().map(|passage| &passage.ids).collect();
            map.serialize_entry("completion_ids", &ids)?;
        }
        write_finished(&mut map, &self.completions)?;
        if let Some(rewards) = &self.rewards {
            map.serialize_entry("rewards", rewards)?;
        }
        if let Some(log_probs) = &self.log_probs {
            map.serialize_entry("log_probs", log_probs)?;
        }
        if !self.reward_parts.is_empty() {
            let parts: Map<String, Value> = self
                .reward_parts
                .iter()
                .map(|(name, rewards)| (name.clone(), json!(rewards)))
                .collect();
            map.serialize_entry("reward_parts", &parts)?;
        }
        write_carried(&mut map, &self.others)?;
        map.end()
    }
}

/// Writes a group of two as `prompt`, `chosen`, `rejected`: its first completion is the chosen.
#[derive(Clone, Copy, Debug)]
pub struct AsPreference<'a>(pub &'a Group);

impl Serialize for AsPreference<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [chosen, rejected] = self.0.completions.as_slice() else {
            return Err(serde::ser::Error::custom("a preference has two completions"));
        };
        let mut map = serializer.serialize_map(None)?;
        write_prompt(&mut map, self.0.id.as_ref(), &self.0.prompt)?;
        write_passage(&mut map, "chosen", "chosen_ids", &chosen.passage)?;
        write_passage(&mut map, "rejected", "rejected_ids", &rejected.passage)?;
        write_finished(&mut map, &self.0.completions)?;
        write_carried(&mut map, &self.0.others)?;
        map.end()
    }
}

/// `finished` goes without saying where all are.
fn write_finished<M: SerializeMap>(map: &mut M, all: &[Completion]) -> Result<(), M::Error> {
    let finished: Vec<bool> = all.iter().map(|completion| completion.finished).collect();
    map.serialize_entry("finished", &finished)
}
