//! Groups that a program was asked for, and the answers to them.

use serde_json::{Value, json};

use crate::data::{Fields, Group, Located};

/// What to do about a reward that is none.
const REMEDY: &str = "give every completion a reward, 0 where it earns none";

/// Groups that a program is asked for together.
pub struct Exchange<'a> {
    groups: &'a [Located<Group>],
    /// What each group is called in this exchange.
    ids: Vec<Value>,
    answers: Vec<Option<Vec<f64>>>,
    form: Option<Form>,
}

/// How a program tells which group an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Answers come in the order of the groups.
    InOrder,
    /// Answers have the ids of their groups.
    ById,
}

/// What is wrong with an answer, and the group that it is about.
#[derive(Debug)]
pub struct Wrong {
    pub group: usize,
    pub problem: String,
}

impl<'a> Exchange<'a> {
    pub fn new(groups: &'a [Located<Group>]) -> Self {
        let mut ids: Vec<Value> = Vec::with_capacity(groups.len());
        for group in groups {
            let own = group.record.id.clone().filter(|id| !id.is_null());
            ids.push(own.unwrap_or_default());
        }
        for place in 0..groups.len() {
            if ids[place].is_null() {
                let mut id = json!(format!("line {}", groups[place].line));
                if ids.contains(&id) {
                    id = json!(format!("line {}, {}", groups[place].line, place + 1));
                }
                ids[place] = id;
            }
        }
        Self { groups, ids, answers: vec![None; groups.len()], form: None }
    }

    /// The groups that have no answer.
    pub fn open(&self) -> Vec<usize> {
        (0..self.groups.len()).filter(|&place| self.answers[place].is_none()).collect()
    }

    /// The line of a group, with its id, and without rewards that it may have.
    pub fn line(&self, place: usize) -> Vec<u8> {
        let own = Group {
            id: Some(self.ids[place].clone()),
            rewards: None,
            reward_parts: Vec::new(),
            ..self.groups[place].record.clone()
        };
        format!("{}\n", json!(own)).into_bytes()
    }

    /// The program starts again: it may answer otherwise than before.
    pub fn begin(&mut self) {
        self.form = None;
    }

    /// Takes an answer.
    pub fn take(&mut self, line: &[u8]) -> Result<(), Wrong> {
        let Some(&first) = self.open().first() else {
            let problem =
                "expected no further answer, since every group has one; write one line a group";
            let group = self.groups.len().saturating_sub(1);
            return Err(Wrong { group, problem: problem.to_owned() });
        };
        let of_first = |problem: String| Wrong { group: first, problem };
        if !line.trim_ascii_start().starts_with(b"{") {
            let problem = "expected {\"rewards\": [..]}, found something else; print answers alone to standard \
                           output, and everything else to standard error";
            return Err(of_first(problem.to_owned()));
        }
        let fields = Fields::parse(line)
            .map_err(|problem| of_first(problem.replace("correct or drop the record", REMEDY)))?;
        let form = if fields.has("id") { Form::ById } else { Form::InOrder };
        if self.form.is_some_and(|known| known != form) {
            let (expected, found) = match form {
                Form::ById => ("no `id`, as in the answers before", "one"),
                Form::InOrder => ("an `id`, as in the answers before", "none"),
            };
            return Err(of_first(format!(
                "expected {expected}, found {found}; answer every group with its `id`, or all in order without"
            )));
        }
        self.form = Some(form);
        let group = match fields.get("id") {
            Some(id) => self.place_of(id).map_err(of_first)?,
            None => first,
        };
        let wrong = |problem: String| Wrong { group, problem };
        let rewards = self.rewards(&fields, group).map_err(wrong)?;
        self.answers[group] = Some(rewards);
        Ok(())
    }

    /// The open group of an id.
    fn place_of(&self, id: &Value) -> Result<usize, String> {
        let places = |is_same: &dyn Fn(&Value) -> bool| -> Vec<usize> {
            (0..self.ids.len()).filter(|&place| is_same(&self.ids[place])).collect()
        };
        let mut places_of_id = places(&|own| own == id);
        if places_of_id.is_empty() {
            // A program may write 1 as 1.0. Integers have more digits than numbers with a point.
            places_of_id = places(&|own| {
                (own.is_f64() || id.is_f64()) && own.is_number() && own.as_f64() == id.as_f64()
            });
        }
        match places_of_id.as_slice() {
            [place] if self.answers[*place].is_none() => Ok(*place),
            [_] => Err(format!(
                "`id`: expected a group without an answer, found {id} again; answer once"
            )),
            [] => {
                let open: Vec<String> =
                    self.open().iter().take(4).map(|&place| self.ids[place].to_string()).collect();
                Err(format!(
                    "`id`: expected the id of a group that was asked for, such as {}, found {id}; give it \
                     back as it was read",
                    open.join(", ")
                ))
            }
            [one, two, ..] => Err(format!(
                "`id`: expected an id that one group has, found {id}, which lines {} and {} have; make the ids \
                 different, or answer in order without them",
                self.groups[*one].line, self.groups[*two].line
            )),
        }
    }

    /// The rewards in an answer: a finite number for each completion, where true is 1 and false 0.
    fn rewards(&self, fields: &Fields, group: usize) -> Result<Vec<f64>, String> {
        let k = self.groups[group].record.completions.len();
        let Some(Value::Array(values)) = fields.get("rewards") else {
            let expected = format!("a list of {k} numbers, one a completion");
            return Err(fields.missing("rewards", &expected, "write {\"rewards\": [..]}"));
        };
        if values.len() != k {
            return Err(format!(
                "`rewards`: expected {k} numbers, one a completion, found {}; give every completion one",
                values.len()
            ));
        }
        let number = |(place, value): (usize, &Value)| {
            let number =
                value.as_f64().or_else(|| value.as_bool().map(|it| f64::from(u8::from(it))));
            number.filter(|number| number.is_finite()).ok_or_else(|| {
                format!("`rewards[{place}]`: expected a finite number, found {value}; {REMEDY}")
            })
        };
        values.iter().enumerate().map(number).collect()
    }

    /// The rewards of all groups, once none is open.
    pub fn into_rewards(self) -> Vec<Vec<f64>> {
        self.answers.into_iter().map(Option::unwrap_or_default).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Completion, Passage};

    fn groups(ids: &[Value]) -> Vec<Located<Group>> {
        let group = |id: &Value| Group {
            id: Some(id.clone()).filter(|id| !id.is_null()),
            prompt: Passage::of_text("p"),
            completions: ["a", "b"]
                .map(|text| Completion::finished(Passage::of_text(text)))
                .to_vec(),
            rewards: Some(vec![7.0, 8.0]),
            others: json!({"answer": "4"}).as_object().unwrap().clone(),
            ..Group::default()
        };
        Located::numbered("g.jsonl", ids.iter().map(group))
    }

    fn answered(ids: &[Value], lines: &[&str]) -> Result<Vec<Vec<f64>>, String> {
        let groups = groups(ids);
        let mut exchange = Exchange::new(&groups);
        for line in lines {
            exchange
                .take(line.as_bytes())
                .map_err(|wrong| format!("{}: {}", wrong.group + 1, wrong.problem))?;
        }
        assert!(exchange.open().is_empty());
        Ok(exchange.into_rewards())
    }

    #[test]
    fn a_group_is_asked_for_with_an_id_with_its_carried_fields_and_without_rewards() {
        let groups = groups(&[json!("x"), Value::Null, json!("line 3"), Value::Null]);
        let exchange = Exchange::new(&groups[..3]);
        let lines: Vec<Value> =
            (0..3).map(|place| serde_json::from_slice(&exchange.line(place)).unwrap()).collect();
        let expected = json!({"id": "x", "prompt": "p", "completions": ["a", "b"], "finished": [true, true], "answer": "4"});
        assert_eq!(lines[0], expected);
        assert_eq!(lines[1]["id"], "line 2");
        let shifted = [groups[2].clone(), Located { line: 3, ..groups[3].clone() }];
        let exchange = Exchange::new(&shifted);
        assert_ne!(exchange.ids[0], exchange.ids[1]);
    }

    #[test]
    fn answers_come_in_order_or_with_ids_in_any_order() {
        let ids = [json!(1), json!("b")];
        let (one, two) = (vec![0.5, -1.0], vec![1.0, 0.0]);
        let in_order =
            answered(&ids, &[r#"{"rewards": [0.5, -1]}"#, r#"{"rewards": [true, false]}"#]);
        assert_eq!(in_order, Ok(vec![one.clone(), two.clone()]));
        let by_id = [
            r#"{"id": "b", "rewards": [1, 0], "why": "x"}"#,
            r#"{"rewards": [0.5, -1], "id": 1.0}"#,
        ];
        assert_eq!(answered(&ids, &by_id), Ok(vec![one, two]));
    }

    #[test]
    fn ids_of_many_digits_are_told_apart() {
        let ids = [1_800_000_000_000_000_001_u64, 1_800_000_000_000_000_002].map(|it| json!(it));
        let answers = [
            r#"{"id": 1800000000000000002, "rewards": [2, 0]}"#,
            r#"{"id": 1800000000000000001, "rewards": [1, 0]}"#,
        ];
        assert_eq!(answered(&ids, &answers), Ok(vec![vec![1.0, 0.0], vec![2.0, 0.0]]));
        let rounded = r#"{"id": 1.8e18, "rewards": [1, 0]}"#;
        assert!(answered(&ids, &[rounded]).unwrap_err().contains("make the ids different"));
    }

    #[test]
    fn wrong_answers_are_refused_with_what_was_expected_and_found() {
        let ids = [json!(1), json!(2)];
        let refusal = |lines: &[&str]| answered(&ids, lines).unwrap_err();
        insta::assert_snapshot!(refusal(&["Loading.."]), @r#"1: expected {"rewards": [..]}, found something else; print answers alone to standard output, and everything else to standard error"#);
        insta::assert_snapshot!(refusal(&[r#"{"rewards": [1]}"#]), @"1: `rewards`: expected 2 numbers, one a completion, found 1; give every completion one");
        insta::assert_snapshot!(refusal(&[r#"{"rewards": [1, NaN]}"#]), @"1: `rewards[1]`: expected a finite number, found NaN; give every completion a reward, 0 where it earns none");
        insta::assert_snapshot!(refusal(&[r#"{"rewards": [1, null]}"#]), @"1: `rewards[1]`: expected a finite number, found null; give every completion a reward, 0 where it earns none");
        insta::assert_snapshot!(refusal(&[r#"{"rewards": ["1", 2]}"#]), @r#"1: `rewards[0]`: expected a finite number, found "1"; give every completion a reward, 0 where it earns none"#);
        insta::assert_snapshot!(refusal(&[r#"{"rewards": 1}"#]), @r#"1: `rewards`: expected a list of 2 numbers, one a completion, found 1; write {"rewards": [..]}"#);
        insta::assert_snapshot!(refusal(&[r#"{"reward": 1}"#]), @r#"1: `rewards`: expected a list of 2 numbers, one a completion, found only `reward`; write {"rewards": [..]}"#);
        insta::assert_snapshot!(refusal(&[r#"{"id": 1, "rewards": [1, 2]}"#, r#"{"rewards": [1, 2]}"#]), @"2: expected an `id`, as in the answers before, found none; answer every group with its `id`, or all in order without");
        insta::assert_snapshot!(refusal(&[r#"{"id": 1, "rewards": [1, 2]}"#, r#"{"id": 1, "rewards": [1, 2]}"#]), @"2: `id`: expected a group without an answer, found 1 again; answer once");
        insta::assert_snapshot!(refusal(&[r#"{"id": 3, "rewards": [1, 2]}"#]), @"1: `id`: expected the id of a group that was asked for, such as 1, 2, found 3; give it back as it was read");
        let many = [r#"{"rewards": [1, 2]}"#; 3];
        insta::assert_snapshot!(refusal(&many), @"2: expected no further answer, since every group has one; write one line a group");
        let twice =
            answered(&[json!(1), json!(1)], &[r#"{"id": 1, "rewards": [1, 2]}"#]).unwrap_err();
        insta::assert_snapshot!(twice, @"1: `id`: expected an id that one group has, found 1, which lines 1 and 2 have; make the ids different, or answer in order without them");
    }
}
