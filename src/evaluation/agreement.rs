//! Agreement between judges, and among people who labelled the same item.

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::statistics::{Interval, bootstrap_ratio, resampled, wilson};

/// How far two judges agree beyond chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Items that both have judged.
    pub items: usize,
    /// Share of them on which both say the same, with Wilson's interval.
    pub agreement: Interval,
    /// Cohen's κ with a bootstrap interval over items; none where one judge always says the same,
    /// since κ then says nothing.
    pub kappa: Option<Interval>,
    /// The asymptotic standard error of κ (Fleiss, Cohen and Everitt 1969).
    pub kappa_standard_error: Option<f64>,
}

impl Agreement {
    /// Of the two verdicts on every item; none of no items.
    pub fn new(pairs: &[(Verdict, Verdict)], seed: u64) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let table = Table::new(pairs.iter());
        let kappas = || resampled(pairs, seed, |drawn| Table::new(drawn.into_iter()).kappa());
        let kappa = table.kappa().filter(|_| table.both_vary());
        Some(Self {
            items: pairs.len(),
            agreement: wilson(table.agreement(), pairs.len() as f64),
            kappa: kappa.map(|it| Interval::of_resamples(it, kappas())),
            kappa_standard_error: kappa.map(|_| table.standard_error()),
        })
    }
}

/// Items by the two verdicts.
struct Table {
    counts: [[f64; 3]; 3],
    items: f64,
}

impl Table {
    fn new<'a>(pairs: impl ExactSizeIterator<Item = &'a (Verdict, Verdict)>) -> Self {
        let mut counts = [[0.0; 3]; 3];
        let items = pairs.len() as f64;
        for (one, other) in pairs {
            counts[*one as usize][*other as usize] += 1.0;
        }
        Self { counts, items }
    }

    /// Shares of each verdict, by the one and by the other.
    fn margins(&self) -> ([f64; 3], [f64; 3]) {
        let rows = self.counts.map(|row| row.iter().sum::<f64>() / self.items);
        let column = |it: usize| self.counts.iter().map(|row| row[it]).sum::<f64>() / self.items;
        (rows, std::array::from_fn(column))
    }

    fn agreement(&self) -> f64 {
        (0..3).map(|it| self.counts[it][it]).sum::<f64>() / self.items
    }

    fn by_chance(&self) -> f64 {
        let (rows, columns) = self.margins();
        rows.iter().zip(columns).map(|(row, column)| row * column).sum()
    }

    fn both_vary(&self) -> bool {
        let (rows, columns) = self.margins();
        [rows, columns].iter().all(|margin| margin.iter().filter(|it| **it > 0.0).count() > 1)
    }

    /// (p − p_chance) / (1 − p_chance), none where chance alone agrees always.
    fn kappa(&self) -> Option<f64> {
        let chance = self.by_chance();
        (chance < 1.0 - 1e-12).then(|| (self.agreement() - chance) / (1.0 - chance))
    }

    fn standard_error(&self) -> f64 {
        let (rows, columns) = self.margins();
        let chance = self.by_chance();
        let kappa = (self.agreement() - chance) / (1.0 - chance);
        let mut sum = -(kappa - chance * (1.0 - kappa)).powi(2);
        for (row, column) in (0..9).map(|it| (it / 3, it % 3)) {
            // How often the other judge says the row's verdict, and this one the column's.
            let margin = (columns[row] + rows[column]) * (1.0 - kappa);
            let own = if row == column { 1.0 } else { 0.0 };
            sum += self.counts[row][column] / self.items * f64::powi(own - margin, 2);
        }
        (sum.max(0.0) / self.items).sqrt() / (1.0 - chance)
    }
}

/// How far the people who labelled the same items agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotators {
    /// Items with two labels or more.
    pub items: usize,
    /// Items on which all agree.
    pub unanimous: usize,
    /// Share of all pairs of labels of one item that say the same, with a bootstrap interval over
    /// items.
    pub pairwise_agreement: Interval,
    /// Fleiss' κ; where items have different numbers of labels, every item counts alike. None where
    /// all labels are the same.
    pub fleiss_kappa: Option<f64>,
    /// Every two of them, told by the place of their label in the record.
    pub pairs: Vec<AnnotatorPair>,
}

/// Two annotators against each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnnotatorPair {
    /// Places of their labels in the record, from 0.
    pub annotators: (usize, usize),
    /// How far they agree.
    #[serde(flatten)]
    pub agreement: Agreement,
}

impl Annotators {
    /// From the labels of every item; none where no item has two.
    pub fn new(items: &[Vec<Verdict>], seed: u64) -> Option<Self> {
        let several: Vec<&Vec<Verdict>> = items.iter().filter(|it| it.len() > 1).collect();
        let agreeing: Vec<(f64, f64)> = several.iter().map(|labels| pairs_alike(labels)).collect();
        let most = several.iter().map(|it| it.len()).max().unwrap_or(0);
        let places = (0..most).flat_map(|one| (one + 1..most).map(move |other| (one, other)));
        let pairs = places.filter_map(|(one, other)| {
            let both = several.iter().filter_map(|it| Some((*it.get(one)?, *it.get(other)?)));
            let agreement = Agreement::new(&both.collect::<Vec<_>>(), seed)?;
            Some(AnnotatorPair { annotators: (one, other), agreement })
        });
        Some(Self {
            pairwise_agreement: bootstrap_ratio(&agreeing, seed)?,
            items: several.len(),
            unanimous: agreeing.iter().filter(|(alike, all)| alike == all).count(),
            fleiss_kappa: fleiss_kappa(&several, &agreeing),
            pairs: pairs.collect(),
        })
    }
}

/// Pairs of labels that say the same, and all pairs.
fn pairs_alike(labels: &[Verdict]) -> (f64, f64) {
    let pairs = |count: usize| (count * count.saturating_sub(1) / 2) as f64;
    let of = |verdict| labels.iter().filter(|it| **it == verdict).count();
    (Verdict::ALL.into_iter().map(|it| pairs(of(it))).sum(), pairs(labels.len()))
}

/// (P − P_chance) / (1 − P_chance), P the mean over items of the share of pairs that agree.
fn fleiss_kappa(items: &[&Vec<Verdict>], agreeing: &[(f64, f64)]) -> Option<f64> {
    let count = items.len() as f64;
    let agreement = agreeing.iter().map(|(alike, all)| alike / all).sum::<f64>() / count;
    let share = |verdict| {
        let of = |it: &&Vec<Verdict>| {
            it.iter().filter(|it| **it == verdict).count() as f64 / it.len() as f64
        };
        items.iter().map(of).sum::<f64>() / count
    };
    let chance: f64 = Verdict::ALL.into_iter().map(|it| f64::powi(share(it), 2)).sum();
    (chance < 1.0 - 1e-12).then(|| (agreement - chance) / (1.0 - chance))
}

#[cfg(test)]
mod tests {
    use super::Verdict::{A, B, Tie};
    use super::*;

    /// The pairs of a table of counts.
    fn pairs(table: [[usize; 3]; 3]) -> Vec<(Verdict, Verdict)> {
        let cell = |row: usize, column: usize| {
            vec![(Verdict::ALL[row], Verdict::ALL[column]); table[row][column]]
        };
        (0..9).flat_map(|it| cell(it / 3, it % 3)).collect()
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
    }

    // statsmodels 0.14, cohens_kappa and proportion_confint(57, 80, method="wilson").
    #[test]
    fn kappa_and_its_standard_error_are_those_of_statsmodels() {
        let agreement = Agreement::new(&pairs([[20, 5, 3], [4, 10, 6], [2, 3, 27]]), 0).unwrap();
        let kappa = agreement.kappa.unwrap();
        let error = agreement.kappa_standard_error.unwrap();
        near(kappa.mean, 0.557_692_307_692_307_7);
        near(error, 0.075_702_403_014_646_6);
        near(agreement.agreement.mean, 0.7125);
        near(agreement.agreement.low, 0.605_396_537_870_100_2);
        near(agreement.agreement.high, 0.800_130_757_077_300_7);
        // The bootstrap's width is the normal theory's to a few percent.
        assert!(((kappa.high - kappa.low) / (2.0 * 1.96 * error) - 1.0).abs() < 0.1, "{kappa:?}");

        let two = Agreement::new(&pairs([[9, 0, 1], [0, 0, 0], [2, 0, 8]]), 0).unwrap();
        near(two.kappa.unwrap().mean, 0.7);
        near(two.kappa_standard_error.unwrap(), 0.158_886_752_122_384_34);
    }

    #[test]
    fn judges_that_always_agree_have_kappa_1_and_one_that_never_varies_has_none() {
        let perfect = Agreement::new(&pairs([[5, 0, 0], [0, 2, 0], [0, 0, 4]]), 0).unwrap();
        assert_eq!(perfect.kappa, Some(Interval { mean: 1.0, low: 1.0, high: 1.0 }));
        // The root of what rounding leaves.
        assert!(perfect.kappa_standard_error.unwrap() < 1e-7);
        let constant = Agreement::new(&[(A, A), (A, B), (A, A)], 0).unwrap();
        assert_eq!((constant.kappa, constant.kappa_standard_error), (None, None));
        near(constant.agreement.mean, 2.0 / 3.0);
        assert_eq!(Agreement::new(&[], 0), None);
    }

    // statsmodels 0.14: fleiss_kappa(aggregate_raters(..)), cohens_kappa of every two columns.
    #[test]
    fn three_annotators_agree_as_statsmodels_says() {
        let items = [
            vec![A, A, A],
            vec![A, A, Tie],
            vec![Tie, B, B],
            vec![B, B, B],
            vec![A, Tie, B],
            vec![B, B, A],
            vec![A],
        ];
        let annotators = Annotators::new(&items, 0).unwrap();
        assert_eq!((annotators.items, annotators.unanimous), (6, 2));
        near(annotators.pairwise_agreement.mean, 0.5);
        near(annotators.fleiss_kappa.unwrap(), 0.198_019_801_980_198);
        let expected = [
            ((0, 1), 0.478_260_869_565_217_4, 0.248_839_057_420_103_3),
            ((0, 2), -0.043_478_260_869_565_17, 0.272_526_597_972_629_1),
            ((1, 2), 0.181_818_181_818_181_8, 0.284_854_346_109_323_7),
        ];
        for (pair, (annotators, kappa, error)) in annotators.pairs.iter().zip(expected) {
            assert_eq!((pair.annotators, pair.agreement.items), (annotators, 6));
            near(pair.agreement.kappa.unwrap().mean, kappa);
            near(pair.agreement.kappa_standard_error.unwrap(), error);
        }
        assert_eq!(annotators.pairs.len(), 3);
        assert_eq!(Annotators::new(&items[6..], 0), None);
    }
}
