//! The results of a run as a table in the terminal.

use comfy_table::{CellAlignment, Table, presets};
use exalign::evaluation::OptimumPoint;
use exalign::report::Report;
use exalign::statistics::Interval;

/// A row for each policy at the end of its training, and one for the optimum.
pub fn table(report: &Report) -> Table {
    let unit = match report.reward_unit.as_str() {
        "" => "reward".to_owned(),
        unit => format!("reward ({unit})"),
    };
    let ruled = report.results.iter().any(|row| row.rule.is_some());
    let mut header = vec!["policy", unit.as_str(), "gain over SFT", "KL (nats)"];
    if ruled {
        header.push("by the rule");
    }
    header.extend(["samples", "training"]);
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    let written = |value: Option<Interval>| value.map_or(String::new(), |it| it.to_string());
    for row in &report.results {
        let mut cells = vec![
            report.label(&row.policy).to_owned(),
            row.reward.to_string(),
            written(row.reward_gain),
            written(row.best_kl()),
        ];
        if ruled {
            cells.push(written(row.rule));
        }
        cells.push(row.num_samples.to_string());
        cells.push(if row.seconds > 0.0 { format!("{:.1} s", row.seconds) } else { String::new() });
        table.add_row(cells);
    }
    if let Some(optimum) = &report.optimum {
        table.add_row(optimum_cells(&optimum.point, ruled));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn optimum_cells(point: &OptimumPoint, ruled: bool) -> Vec<String> {
    let mut cells = vec![
        // As f32, a product of settings shows no rounding.
        format!("π* at β = {}", point.beta as f32),
        point.reward.to_string(),
        String::new(),
        point.kl.to_string(),
    ];
    if ruled {
        cells.push(String::new());
    }
    cells.push(format!(
        "{:.0} effective of {} a prompt",
        point.effective_sample_size, point.samples_per_prompt
    ));
    cells
}
