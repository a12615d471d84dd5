//! `strftime`, as the C library writes it in the C locale.

use chrono::{Datelike, NaiveDateTime, Timelike};

use super::budget;
use super::fault::{Outcome, refuse};

/// The widest that a field is filled up to.
const MAX_WIDTH: usize = 1024;

/// A moment in a format.
pub fn strftime(moment: &NaiveDateTime, format: &str) -> Outcome<String> {
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut length = 1;
        let (mut flag, mut width) = (None, String::new());
        let kind = rest.chars().skip(1).find(|&char| {
            length += char.len_utf8();
            match char {
                '-' | '_' | '0' | '^' | '#' if width.is_empty() => flag = Some(char),
                '0'..='9' => width.push(char),
                // Other eras and numerals, of which the C locale has none.
                'E' | 'O' => {}
                _ => return true,
            }
            false
        });
        match kind.map(|kind| field(moment, kind)).transpose()?.flatten() {
            Some((text, digits, fill)) => {
                let width = match width.trim_start_matches('0') {
                    "" => 0,
                    width => width.parse().unwrap_or(usize::MAX),
                };
                if width > MAX_WIDTH {
                    refuse!("strftime_now: a field is wider than {MAX_WIDTH}");
                }
                let text = laid_out(text, digits, fill, flag, width);
                budget::read(length + text.len())?;
                budget::fits(out.len() + text.len())?;
                out.push_str(&text);
            }
            // What is no field stays as it is.
            None => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    Ok(out + rest)
}

/// A field with its own width and fill, or another that the format asks for.
fn laid_out(text: String, digits: usize, fill: char, flag: Option<char>, width: usize) -> String {
    let (digits, fill) = match flag {
        Some('-') => (0, fill),
        Some('_') => (digits, ' '),
        Some('0') => (digits, '0'),
        _ => (digits, fill),
    };
    let text = match flag {
        Some('^') => text.to_uppercase(),
        Some('#') if text.chars().any(char::is_lowercase) => text.to_uppercase(),
        Some('#') => text.to_lowercase(),
        _ => text,
    };
    let width = if width > 0 { width } else { digits };
    let missing = width.saturating_sub(text.chars().count());
    String::from(fill).repeat(missing) + &text
}

/// The text of a field without leading zeros, its width, and what fills it.
fn field(moment: &NaiveDateTime, kind: char) -> Outcome<Option<(String, usize, char)>> {
    let number = |value: u32, digits: usize| (value.to_string(), digits, '0');
    let blank = |value: u32, digits: usize| (value.to_string(), digits, ' ');
    let text = |value: &str| (value.to_owned(), 0, ' ');
    let nested = |format: &str| strftime(moment, format).map(|it| Some((it, 0, ' ')));
    let (date, time) = (moment.date(), moment.time());
    let weekday = date.weekday();
    let sunday = weekday.num_days_from_sunday();
    let noon = if time.hour() < 12 { "AM" } else { "PM" };
    let hour12 = time.hour12().1;
    let weeks = |first: u32| (date.ordinal() + 6 - first) / 7;
    let year = date.year().unsigned_abs();
    Ok(Some(match kind {
        'a' => text(&DAYS[sunday as usize][..3]),
        'A' => text(DAYS[sunday as usize]),
        'b' | 'h' => text(&MONTHS[date.month0() as usize][..3]),
        'B' => text(MONTHS[date.month0() as usize]),
        'c' => return nested("%a %b %e %H:%M:%S %Y"),
        'C' => number(year / 100, 2),
        'd' => number(date.day(), 2),
        'D' | 'x' => return nested("%m/%d/%y"),
        'e' => blank(date.day(), 2),
        'f' => number(time.nanosecond() / 1000 % 1_000_000, 6),
        'F' => return nested("%Y-%m-%d"),
        'g' => number(date.iso_week().year().unsigned_abs() % 100, 2),
        'G' => number(date.iso_week().year().unsigned_abs(), 0),
        'H' => number(time.hour(), 2),
        'I' => number(hour12, 2),
        'j' => number(date.ordinal(), 3),
        'k' => blank(time.hour(), 2),
        'l' => blank(hour12, 2),
        'm' => number(date.month(), 2),
        'M' => number(time.minute(), 2),
        'n' => text("\n"),
        'p' => text(noon),
        'P' => text(&noon.to_lowercase()),
        'r' => return nested("%I:%M:%S %p"),
        'R' => return nested("%H:%M"),
        's' => match moment.and_local_timezone(chrono::Local).earliest() {
            Some(local) => text(&local.timestamp().to_string()),
            None => refuse!("strftime_now: the date has no such time here"),
        },
        'S' => number(time.second(), 2),
        't' => text("\t"),
        'T' | 'X' => return nested("%H:%M:%S"),
        'u' => number(weekday.number_from_monday(), 1),
        'U' => number(weeks(sunday), 2),
        'V' => number(date.iso_week().week(), 2),
        'w' => number(sunday, 1),
        'W' => number(weeks(weekday.num_days_from_monday()), 2),
        'y' => number(year % 100, 2),
        'Y' => number(year, 0),
        // A moment of no time zone.
        'z' | 'Z' => text(""),
        '%' => text("%"),
        _ => return Ok(None),
    }))
}

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
