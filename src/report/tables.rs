//! What every table of the page has.

use std::ops::Range;

use maud::{Markup, html};

use super::text::bounds;
use crate::statistics::Interval;

/// A table that scrolls within itself; the columns `numeric` are set right.
pub fn table(caption: &str, header: &[&str], numeric: Range<usize>, rows: Markup) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead {
                    tr {
                        @for (index, name) in header.iter().enumerate() {
                            th scope="col" class=[numeric.contains(&index).then_some("n")] { (name) }
                        }
                    }
                }
                tbody { (rows) }
            }
        }
    }
}

/// A row of text: a heading and cells with numbers.
pub fn row(name: &str, cells: &[String]) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            @for cell in cells {
                td class="n" { (cell) }
            }
        }
    }
}

/// A mean with its interval, an empty cell where there is none.
pub fn cell(value: Option<&Interval>, write: fn(f64, usize) -> String) -> Markup {
    html! {
        td class="n" {
            @if let Some(it) = value {
                b { (write(it.mean, 3)) } " " span class="bounds" { (bounds(it)) }
            }
        }
    }
}

/// A table, as [`table`], that is there for who opens it; nothing without rows.
pub fn folded(
    summary: &str,
    caption: &str,
    header: &[&str],
    numeric: Range<usize>,
    rows: Markup,
) -> Markup {
    html! {
        @if !rows.0.is_empty() {
            details {
                summary { (summary) }
                (table(caption, header, numeric, rows))
            }
        }
    }
}
