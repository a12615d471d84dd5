//! Numbers with all their digits.

/// ± digits · 10^exponent; two are equal where their values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    is_negative: bool,
    /// Without zeros at its ends; none for zero.
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads a number as JSON and Rust write it: a minus, digits, a point, an exponent.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (is_negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|it| it.is_ascii_digit()) {
            return None;
        }
        let digits = all.trim_end_matches('0');
        let zeros = i64::try_from(all.len() - digits.len()).ok()?;
        let decimals = i64::try_from(fraction.len()).ok()?;
        let exponent = exponent.checked_sub(decimals)?.checked_add(zeros)?;
        Some(match digits.trim_start_matches('0') {
            "" => Self { is_negative: false, digits: String::new(), exponent: 0 },
            digits => Self { is_negative, digits: digits.to_owned(), exponent },
        })
    }

    /// The nearest number of 64 bits.
    pub fn value(&self) -> f64 {
        let sign = if self.is_negative { "-" } else { "" };
        let digits = if self.digits.is_empty() { "0" } else { &self.digits };
        format!("{sign}{digits}e{}", self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// The number with the other sign.
    pub fn negated(self) -> Self {
        Self { is_negative: !self.is_negative && !self.digits.is_empty(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        let decimal = |text: &str| Decimal::parse(text).unwrap();
        for (one, two) in
            [("100", "1e2"), ("0.50", ".5"), ("-0.0", "0"), ("12e-1", "1.2"), ("007", "7")]
        {
            assert_eq!(decimal(one), decimal(two), "{one} and {two}");
        }
        assert_ne!(decimal("18446744073709551617"), decimal("18446744073709551616"));
        assert_ne!(decimal("-5"), decimal("5"));
        assert_eq!(decimal("5").negated(), decimal("-5"));
        assert_eq!(decimal("-12.5e1").value(), -125.0);
        for text in ["", ".", "-", "1e", "NaN", "1,000", "1e99999999999999999999"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
