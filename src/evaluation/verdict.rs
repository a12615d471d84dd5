//! Verdicts on two answers, and how the verdicts of both orders combine.

use serde::{Deserialize, Serialize};

use crate::statistics::{Interval, bootstrap_ratio};

/// Which of two answers is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The first.
    A,
    /// Neither.
    Tie,
    /// The second.
    B,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::A, Self::Tie, Self::B];

    /// By two scores, of which the higher is better; none where one of them is no number.
    pub fn of_scores(a: f64, b: f64) -> Option<Self> {
        a.partial_cmp(&b).map(|order| match order {
            std::cmp::Ordering::Less => Self::B,
            std::cmp::Ordering::Equal => Self::Tie,
            std::cmp::Ordering::Greater => Self::A,
        })
    }

    /// The same verdict with the answers named the other way round.
    pub fn swapped(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::Tie => Self::Tie,
            Self::B => Self::A,
        }
    }

    /// What it earns the first answer: 1, ½ or 0.
    pub fn score(self) -> f64 {
        match self {
            Self::A => 1.0,
            Self::Tie => 0.5,
            Self::B => 0.0,
        }
    }
}

/// The verdict that most gave; a tie where several verdicts are the most frequent, none of nobody.
pub fn majority(verdicts: &[Verdict]) -> Option<Verdict> {
    let count = |verdict: Verdict| verdicts.iter().filter(|it| **it == verdict).count();
    let most = Verdict::ALL.into_iter().map(count).max().filter(|most| *most > 0)?;
    let mut first = Verdict::ALL.into_iter().filter(|it| count(*it) == most);
    match (first.next(), first.next()) {
        (Some(only), None) => Some(only),
        _ => Some(Verdict::Tie),
    }
}

/// What a judge said of two answers in both orders; none where its answer held no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BothOrders {
    /// With the first answer shown first.
    pub forward: Option<Verdict>,
    /// With the second answer shown first; named by the answers all the same.
    pub backward: Option<Verdict>,
}

impl BothOrders {
    /// The verdict of a judge to whom the order makes no difference.
    pub fn unordered(verdict: Option<Verdict>) -> Self {
        Self { forward: verdict, backward: verdict }
    }

    /// The verdict on which both orders agree, and a tie where they do not; none unless both have
    /// one.
    pub fn verdict(self) -> Option<Verdict> {
        let (forward, backward) = (self.forward?, self.backward?);
        Some(if forward == backward { forward } else { Verdict::Tie })
    }

    /// Whether the order made the difference.
    pub fn is_order_dependent(self) -> bool {
        matches!((self.forward, self.backward), (Some(one), Some(other)) if one != other)
    }

    /// How often the answer shown first won, and how often any did.
    fn first_position_wins(self) -> (f64, f64) {
        let backward = self.backward.map(Verdict::swapped);
        [self.forward, backward].into_iter().flatten().fold((0.0, 0.0), |(first, all), shown| {
            match shown {
                Verdict::A => (first + 1.0, all + 1.0),
                Verdict::Tie => (first, all),
                Verdict::B => (first, all + 1.0),
            }
        })
    }
}

/// The share of a judge's decisions, ties left out, that fell to the answer shown first: ½ for a
/// judge without position bias. The interval resamples comparisons, whose two orders go together.
/// None where nothing was decided.
pub fn position_bias(asked: &[BothOrders], seed: u64) -> Option<Interval> {
    let wins: Vec<(f64, f64)> = asked.iter().map(|it| it.first_position_wins()).collect();
    bootstrap_ratio(&wins, seed)
}

#[cfg(test)]
mod tests {
    use super::Verdict::{A, B, Tie};
    use super::*;

    fn asked(forward: Verdict, backward: Verdict) -> BothOrders {
        BothOrders { forward: Some(forward), backward: Some(backward) }
    }

    #[test]
    fn orders_that_differ_make_a_tie_and_a_missing_verdict_makes_none() {
        for (forward, backward, verdict) in
            [(A, A, A), (B, B, B), (Tie, Tie, Tie), (A, B, Tie), (A, Tie, Tie), (Tie, B, Tie)]
        {
            let both = asked(forward, backward);
            assert_eq!(both.verdict(), Some(verdict));
            assert_eq!(both.is_order_dependent(), forward != backward);
        }
        let half = BothOrders { forward: Some(A), backward: None };
        assert_eq!((half.verdict(), half.is_order_dependent()), (None, false));
    }

    #[test]
    fn a_majority_is_what_most_say_and_a_draw_is_a_tie() {
        assert_eq!(majority(&[A, A, B]), Some(A));
        assert_eq!(majority(&[Tie, B, Tie]), Some(Tie));
        assert_eq!(majority(&[A, B, Tie]), Some(Tie));
        assert_eq!(majority(&[A, A, B, B, Tie]), Some(Tie));
        assert_eq!(majority(&[]), None);
    }

    #[test]
    fn scores_that_are_equal_are_a_tie() {
        let verdicts =
            [(1.0, 0.5), (0.0, -0.0), (-2.0, 1.0)].map(|(a, b)| Verdict::of_scores(a, b));
        assert_eq!(verdicts, [A, Tie, B].map(Some));
    }

    #[test]
    fn a_score_that_is_no_number_decides_nothing() {
        for (a, b) in [(f64::NAN, 0.0), (0.0, f64::NAN), (f64::NAN, f64::NAN)] {
            assert_eq!(Verdict::of_scores(a, b), None);
        }
    }

    #[test]
    fn a_judge_that_takes_the_first_is_told_from_one_that_does_not_care() {
        let share = |all: &[BothOrders]| position_bias(all, 0).unwrap();
        assert_eq!(share(&[asked(A, B); 8]), Interval { mean: 1.0, low: 1.0, high: 1.0 });
        assert_eq!(share(&[asked(A, A), asked(B, B)]).mean, 0.5);
        // First wins: forward A; backward B. Of 6 decisions 4: (A, B) 2, (A, A) 1, (Tie, B) 1, (B, Tie) 0.
        let mixed = [asked(A, B), asked(A, A), asked(Tie, B), asked(B, Tie)];
        let share = share(&mixed);
        assert!((share.mean - 4.0 / 6.0).abs() < 1e-12 && share.low < 0.5 && share.high == 1.0);
        assert_eq!(position_bias(&[asked(Tie, Tie)], 0), None);
    }
}
