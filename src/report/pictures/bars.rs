//! Bars in the rows of tables.

use maud::{Markup, PreEscaped};

use super::axes::Scale;
use crate::report::schema::WinRateRow;
use crate::report::style::{INK, Ink, MUTED, RULE, Style};
use crate::statistics::Interval;

/// A policy's interval on the scale of all, for a cell of a table; nothing where it is not finite.
pub fn interval_bar(interval: &Interval, all: &[Interval], style: Style) -> Markup {
    let ends = all.iter().flat_map(|it| [it.low, it.high]);
    let finite = (interval.low + interval.mean + interval.high).is_finite();
    let scale = Scale::new(ends, 0.02, 6.0, 154.0).filter(|_| finite);
    PreEscaped(scale.map_or_else(String::new, |x| {
        format!(
            r#"<svg class="bar" viewBox="0 0 160 16" aria-hidden="true"><line x1="0" x2="160" y1="8" y2="8" stroke="{}"/><line x1="{:.1}" x2="{:.1}" y1="8" y2="8" stroke="{}" stroke-width="3"/>{}</svg>"#,
            Ink::Page.of(&RULE),
            x.at(interval.low),
            x.at(interval.high),
            Ink::Page.of(style.color),
            style.mark(x.at(interval.mean), 8.0, 3.0, Ink::Page, true),
        )
    }))
}

/// Wins, ties and losses as shares of a bar, the win rate's interval over it.
pub fn win_bar(row: &WinRateRow, style: Style) -> Markup {
    let all = (row.wins + row.ties + row.losses).max(1) as f64;
    let width = |count: usize| 160.0 * count as f64 / all;
    let (wins, ties) = (width(row.wins), width(row.ties));
    let paint = Ink::Page.of(style.color);
    let (muted, rule, ink) = (Ink::Page.of(&MUTED), Ink::Page.of(&RULE), Ink::Page.of(&INK));
    let x = |share: f64| 160.0 * share.clamp(0.0, 1.0);
    PreEscaped(format!(
        r#"<svg class="bar" viewBox="0 0 160 16" role="img" aria-label="{} won, {} tied, {} lost"><rect y="3" width="{wins:.1}" height="10" fill="{paint}"/><rect x="{wins:.1}" y="3" width="{ties:.1}" height="10" fill="{muted}" fill-opacity=".45"/><rect x="{:.1}" y="3" width="{:.1}" height="10" fill="{rule}"/><line x1="80" x2="80" y1="0" y2="16" stroke="{ink}" stroke-dasharray="2 2"/><line x1="{:.1}" x2="{:.1}" y1="8" y2="8" stroke="{ink}" stroke-width="2"/></svg>"#,
        row.wins,
        row.ties,
        row.losses,
        wins + ties,
        width(row.losses),
        x(row.rate.low),
        x(row.rate.high),
    ))
}
