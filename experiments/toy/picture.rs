//! The figures and the page of the toy.

use exalign::report::{
    Article, Cells, Content, Curve, Figure, Line, Part, Plot, PolicyKind, Style,
};

use super::found::{
    LINE_HEADER, PATH_HEADER, REVIEW_HEADER, Toy, line_cells, path_cells, review_cells,
};
use super::line::{COMPLETIONS, LineFit, LineFits};
use super::reviews::{ReviewFits, ReviewLine};
use super::samples::{self, Path, PathPoint};
use crate::protocol::labels;

/// Both fits to the two modes, and what smaller groups make of them.
pub fn line(line: &LineFits) -> Figure {
    let highest = line.fits.iter().map(|it| it.density(it.mean)).fold(0.0, f64::max);
    let small: Vec<Plot> = COMPLETIONS
        .iter()
        .map(|&count| Plot {
            title: format!("Groups of {count}"),
            x_name: String::new(),
            y_name: String::new(),
            y_holds: Some(highest),
            content: Content::Curves(densities(line, Some(count), false)),
        })
        .collect();
    let whole = Plot {
        title: "Two modes, and a Gaussian that can have only one".to_owned(),
        x_name: "completion".to_owned(),
        y_name: String::new(),
        y_holds: None,
        content: Content::Curves(densities(line, None, true)),
    };
    Figure {
        description: "A Gaussian fitted to a density with two modes: EXO-rw, the reverse KL, settles on the \
                      larger mode; DPO-rw, the forward KL, spreads over both and is highest between them."
            .to_owned(),
        rows: vec![vec![whole], small],
    }
}

fn densities(line: &LineFits, completions: Option<usize>, named: bool) -> Vec<Curve> {
    let name = |text: &str| if named { text.to_owned() } else { String::new() };
    let mut curves = vec![Curve {
        name: name("π*, the target"),
        style: Style::OPTIMUM,
        line: Line::Area,
        points: line.grid.iter().copied().zip(line.optimum.iter().copied()).collect(),
    }];
    for (objective, text) in [
        ("exo-rw", "EXO-rw: reverse KL, seeks a mode"),
        ("dpo-rw", "DPO-rw: forward KL, covers both"),
    ] {
        if let Some(fit) = line.of(objective, completions) {
            curves.push(Curve {
                name: name(text),
                style: Style::of(&labels::named(objective)),
                line: Line::Solid,
                points: line.grid.iter().map(|&x| (x, fit.density(x))).collect(),
            });
        }
    }
    curves
}

/// The fits on the way from EXO-rw to DPO-rw.
pub fn path(toy: &Toy) -> Figure {
    let fits = toy.along_alpha();
    let highest = fits.iter().map(|fit| fit.density(fit.mean)).fold(0.0, f64::max);
    let style = Style::of(&labels::named("alpha-rw"));
    let plot = |fit: &&LineFit| {
        let end = match fit.alpha {
            Some(0.0) => ": EXO-rw",
            Some(1.0) => ": DPO-rw",
            _ => "",
        };
        let grid = || toy.line.grid.iter().copied();
        let curve = |style, line, points| Curve { name: String::new(), style, line, points };
        let optimum = grid().zip(toy.line.optimum.iter().copied()).collect();
        let fitted = grid().map(|x| (x, fit.density(x))).collect();
        Plot {
            title: format!("α = {}{end}", fit.alpha.unwrap_or_default()),
            x_name: String::new(),
            y_name: String::new(),
            y_holds: Some(highest),
            content: Content::Curves(vec![
                curve(Style::OPTIMUM, Line::Area, optimum),
                curve(style, Line::Solid, fitted),
            ]),
        }
    };
    Figure {
        description: "A Gaussian fitted to a density with two modes by α-divergences: near α = 0 it sits on the larger \
                      mode, and further on it covers both and widens until α = 1."
            .to_owned(),
        rows: vec![fits.iter().map(plot).collect()],
    }
}

/// The policies over reviews and their frontiers.
pub fn reviews(reviews: &ReviewFits) -> Figure {
    let cells = |policy: &str, title: String| {
        Some(Plot {
            title,
            x_name: String::new(),
            y_name: String::new(),
            y_holds: None,
            content: Content::Cells(Cells {
                style: Style::of(&labels::named(policy)),
                rows: reviews.openings.clone(),
                columns: reviews.verdicts.clone(),
                shares: reviews.of(policy)?.shares.clone(),
            }),
        })
    };
    let frontier = Plot {
        title: "Reward against KL, along β".to_owned(),
        x_name: "KL to SFT (nats) →".to_owned(),
        y_name: "↑ Reward".to_owned(),
        y_holds: None,
        content: Content::Curves(reviews.frontier.iter().map(way).collect()),
    };
    let pair = |a: Option<Plot>, b: Option<Plot>| a.into_iter().chain(b).collect();
    Figure {
        description: "Shares of reviews of two sentences, in %, under π*, EXO-rw and DPO-rw, whose sentences are \
                      chosen independently, and their reward against KL."
            .to_owned(),
        rows: vec![
            pair(
                cells("optimum", format!("π* at β = {}, shares in %", reviews.beta)),
                cells("exo-rw", "EXO-rw: one kind of review".to_owned()),
            ),
            pair(cells("dpo-rw", "DPO-rw: both kinds, and their mixtures".to_owned()), Some(frontier)),
        ],
    }
}

fn way(it: &ReviewLine) -> Curve {
    let label = labels::named(&it.policy);
    let exact = label.kind == PolicyKind::Optimum;
    Curve {
        name: if exact { "π*, any policy".to_owned() } else { label.label.clone() },
        style: Style::of(&label),
        line: if exact { Line::Dashed } else { Line::Marked },
        points: it.points.iter().map(|it| (it.kl, it.reward)).collect(),
    }
}

/// How near each way has come to π*, by samples drawn.
pub fn paths(paths: &[Path]) -> Figure {
    // Below this nothing can be told in f32.
    const FLOOR: f64 = 1e-6;
    let curve = |path: &Path| {
        let label = labels::named(&path.objective);
        let (from, line) = match path.online {
            true => ("its own samples", Line::Solid),
            false => ("samples of π_sft", Line::Dashed),
        };
        let point = |it: &PathPoint| (it.samples as f64 / 1000.0, it.reverse_kl.max(FLOOR).log10());
        Curve {
            name: format!("{}, {from}", label.label),
            style: Style::of(&label),
            line,
            points: path.points.iter().map(point).collect(),
        }
    };
    let plot = Plot {
        title: "The way to π*".to_owned(),
        x_name: "samples drawn (thousands) →".to_owned(),
        y_name: "log₁₀ KL(π ‖ π*)".to_owned(),
        y_holds: None,
        content: Content::Curves(paths.iter().map(curve).collect()),
    };
    Figure {
        description: "KL(π ‖ π*) of a policy over 36 reviews against the samples drawn: objectives on samples of the \
                      policy itself, and on samples of π_sft."
            .to_owned(),
        rows: vec![vec![plot]],
    }
}

/// The page.
pub fn page(toy: &Toy) -> Article {
    let owned = |header: [&str; 7]| header.map(str::to_owned).to_vec();
    Article {
        title: "EXO seeks a mode where DPO covers both".to_owned(),
        kicker: "exalign · toy".to_owned(),
        summary: toy.findings(),
        parts: vec![
            Part {
                id: "line".to_owned(),
                title: "A Gaussian on a line".to_owned(),
                figure: line(&toy.line),
                caption: "π* is a mixture of two Gaussians on 321 points, π_sft is uniform, the policy is one \
                          Gaussian that starts at mean 0 and scale 1.5. Above, every group holds all points; \
                          below, as many as are said, drawn from π_sft. Mass off π* is the policy's share outside the \
                          likeliest points that hold 99 % of π*."
                    .to_owned(),
                header: owned(LINE_HEADER),
                rows: line_cells(&toy.line.fits),
            },
            Part {
                id: "path".to_owned(),
                title: "From EXO to DPO".to_owned(),
                figure: path(toy),
                caption: "The same fit, every group holding all points, by the α-divergences that lie between the \
                          reverse KL (α = 0) and the forward KL (α = 1). The table has two more divergences that lie \
                          between them."
                    .to_owned(),
                header: owned(LINE_HEADER),
                rows: line_cells(&toy.line.path),
            },
            Part {
                id: "reviews".to_owned(),
                title: "Reviews of two sentences".to_owned(),
                figure: reviews(&toy.reviews),
                caption: "The reward wants two sentences that agree. The policy chooses them independently, so \
                          it cannot say “whichever, but the same twice”: the forward KL keeps both kinds of \
                          reviews and with them every contradiction, the reverse KL gives one kind up. Going \
                          along β from loose to tight, EXO-rw is nearer to the best that any policy can do."
                    .to_owned(),
                header: owned(REVIEW_HEADER),
                rows: review_cells(&toy.reviews),
            },
            Part {
                id: "online".to_owned(),
                title: "On its own samples".to_owned(),
                figure: paths(&toy.paths),
                caption: format!(
                    "The same reviews and a policy that can represent any distribution over them, from a π_sft that \
                     writes two sentences that agree {:.1} % of the time; groups of {}, β_π = 1, β_r = {}. Samples of π_sft \
                     seldom show what π* wants. Samples of the policy do, the more the nearer it is; they are weighted by \
                     the distribution that they were drawn from. With β_π = 1 EXO-rw on its own samples has the gradient \
                     of RLOO, up to a factor: the two lines lie on each other.",
                    100.0 * samples::agreeing_share(),
                    samples::COMPLETIONS,
                    samples::BETA
                ),
                header: PATH_HEADER.map(str::to_owned).to_vec(),
                rows: path_cells(&toy.paths),
            },
        ],
    }
}
