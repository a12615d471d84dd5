//! How time and memory of a step grow with the prompt and with K, on a decoder of SmolLM2-135M's shape.
//!
//! ```text
//! cargo bench --bench growth -- [out=growth.svg] [completion=40] [repeats=1]
//! ```
//!
//! One JSON object a line and a picture: forward and backward of one group, beside the same group read as
//! K separate sequences, which is what encoding the prompt for every completion costs.

use std::time::Instant;

use burn::tensor::Device;
use burn::train::TrainStep;
use exalign::alignment::ExoRwConfig;
use exalign::data::TokenGroup;
use exalign::model::{Decoder, Precision};
use exalign::report::{Content, Curve, Figure, Line, Plot};
use exalign::training::{Aligner, Step, Trainee};
use support::{decoder, forget_peak_memory, given, group, micro_batch, number, peak_memory_bytes};

mod support;

#[path = "../experiments/allocator.rs"]
#[allow(unsafe_code, reason = "the program's own allocator settings")]
mod allocator;

const PROMPTS: [usize; 5] = [64, 128, 256, 512, 1024];
const COMPLETIONS: [usize; 5] = [2, 4, 8, 16, 32];
/// More separate sequences than this are not worth the wait.
const MOST_APART: usize = 8;

fn main() {
    allocator::keep_freed_memory();
    let device = Device::flex().autodiff();
    let objective = ExoRwConfig::new().init().expect("defaults");
    let aligner = Aligner::new(decoder(&device), objective, 1.0);
    let bench = Bench {
        trainee: Trainee::new(aligner, Precision::F32),
        device,
        completion: number("completion", 40),
        repeats: number("repeats", 1),
    };
    bench.measure(64, 2, false); // warms up
    let by_prompt: Vec<Point> = PROMPTS.iter().map(|&it| bench.measure(it, 4, false)).collect();
    let by_k: Vec<Point> = COMPLETIONS.iter().map(|&it| bench.measure(350, it, false)).collect();
    let apart: Vec<Point> = COMPLETIONS
        .iter()
        .filter(|it| **it <= MOST_APART)
        .map(|&it| bench.measure(350, it, true))
        .collect();
    if let Some(out) = given("out") {
        let figure = figure(&by_prompt, &by_k, &apart);
        std::fs::write(out, figure.to_svg()).expect("the picture can be written");
    }
}

type Subject = Trainee<Aligner<Decoder, exalign::alignment::ExoRw>>;

struct Bench {
    trainee: Subject,
    device: Device,
    completion: usize,
    repeats: usize,
}

/// What one group takes.
struct Point {
    prompt: usize,
    completions: usize,
    tokens: usize,
    seconds: f64,
    peak_bytes: u64,
}

impl Bench {
    /// The gradient of one group of `completions`, read at once or `apart`.
    fn measure(&self, prompt: usize, completions: usize, apart: bool) -> Point {
        let whole = group(1, prompt, completions, self.completion);
        let groups = match apart {
            // K groups of one completion: nothing is shared.
            true => whole.completions.iter().map(|it| single(&whole, it)).collect(),
            false => vec![whole],
        };
        let tokens = groups.iter().map(TokenGroup::num_tokens).sum();
        forget_peak_memory();
        let started = Instant::now();
        for _ in 0..self.repeats {
            let step = Step {
                epoch: 0,
                micro_batches: vec![micro_batch(&groups, groups.len(), &self.device)],
                num_groups: groups.len(),
                num_tokens: tokens,
                records: Vec::new(),
            };
            std::hint::black_box(TrainStep::step(&self.trainee, step));
        }
        let seconds = started.elapsed().as_secs_f64() / self.repeats as f64;
        let point = Point { prompt, completions, tokens, seconds, peak_bytes: peak_memory_bytes() };
        println!(
            "{}",
            serde_json::json!({
                "prompt": prompt, "completions": completions, "apart": apart, "tokens": tokens,
                "seconds": seconds, "ms_per_token": 1e3 * seconds / tokens as f64,
                "peak_memory_bytes": point.peak_bytes,
            })
        );
        point
    }
}

fn single(group: &TokenGroup, completion: &[u32]) -> TokenGroup {
    TokenGroup {
        prompt: group.prompt.clone(),
        completions: vec![completion.to_vec()],
        rewards: vec![0.0],
        ..TokenGroup::default()
    }
}

fn figure(by_prompt: &[Point], by_k: &[Point], apart: &[Point]) -> Figure {
    let curve = |name: &str, policy: &str, points: Vec<(f64, f64)>| Curve {
        name: name.to_owned(),
        policy: policy.to_owned(),
        line: Line::Marked,
        points,
    };
    let plot = |title: &str, x_name: &str, y_name: &str, curves| Plot {
        title: title.to_owned(),
        x_name: x_name.to_owned(),
        y_name: y_name.to_owned(),
        y_holds: Some(0.0),
        content: Content::Curves(curves),
    };
    let k = |it: &Point| it.completions as f64;
    let gigabytes = |it: &Point| it.peak_bytes as f64 / 1e9;
    let of = |points: &[Point], x: fn(&Point) -> f64, y: fn(&Point) -> f64| {
        points.iter().map(|it| (x(it), y(it))).collect::<Vec<_>>()
    };
    let per_token: fn(&Point) -> f64 = |it| 1e3 * it.seconds / it.tokens as f64;
    Figure {
        description: "Time and memory of a training step against the prompt's length and K"
            .to_owned(),
        rows: vec![
            vec![
                plot(
                    "A group of K completions",
                    "K",
                    "seconds",
                    vec![
                        curve("prompt read once", "exo-rw", of(by_k, k, |it| it.seconds)),
                        curve("prompt read K times", "dpo-rw", of(apart, k, |it| it.seconds)),
                    ],
                ),
                plot(
                    "Memory of the process",
                    "K",
                    "GB",
                    vec![
                        curve("prompt read once", "exo-rw", of(by_k, k, gigabytes)),
                        curve("prompt read K times", "dpo-rw", of(apart, k, gigabytes)),
                    ],
                ),
            ],
            vec![
                plot(
                    "Per token, K from 2 to 32",
                    "tokens of the group",
                    "ms",
                    vec![curve("", "exo-rw", of(by_k, |it| it.tokens as f64, per_token))],
                ),
                plot(
                    "Per token, prompts of 64 to 1024",
                    "tokens of the prompt",
                    "ms",
                    vec![curve("", "exo-rw", of(by_prompt, |it| it.prompt as f64, per_token))],
                ),
            ],
        ],
    }
}
