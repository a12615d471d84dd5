//! How time and memory of a step grow with the prompt and with K, on a decoder of SmolLM2-135M's shape,
//! and with the model's size, on those of its family.
//!
//! ```text
//! cargo bench --bench growth -- [out=growth.svg] [completion=40] [repeats=1]
//! ```
//!
//! One JSON object a line and a picture: forward and backward of one group, beside the same group read as
//! K separate sequences, which is what encoding the prompt for every completion costs. By size beside what
//! the matrix products alone would take, at the speed of such products measured just before and after, and
//! what parameters and gradients alone hold.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn::train::TrainStep;
use exalign::alignment::{Divergence, ExoRwConfig, Takes};
use exalign::data::TokenGroup;
use exalign::kernels::linear::product;
use exalign::model::{Decoder, Precision};
use exalign::report::{Content, Curve, Figure, Line, Plot, Style};
use exalign::training::{Aligner, Step, Trainee};
use serde::{Deserialize, Serialize};
use support::{
    SMOLLM2_135M, Shape, decoder, forget_peak_memory, given, group, micro_batch, number,
    peak_memory_bytes,
};

mod support;

#[path = "../experiments/allocator.rs"]
#[allow(unsafe_code, reason = "the program's own allocator settings")]
mod allocator;

const PROMPTS: [usize; 5] = [64, 128, 256, 512, 1024];
const COMPLETIONS: [usize; 5] = [2, 4, 8, 16, 32];
/// More separate sequences than this are not worth the wait.
const MOST_APART: usize = 8;

/// SmolLM2's shapes and, first, half of the smallest.
const SIZES: [Shape; 4] = [
    Shape { name: "half of SmolLM2-135M", num_layers: 15, ..SMOLLM2_135M },
    SMOLLM2_135M,
    Shape {
        name: "SmolLM2-360M",
        hidden_size: 960,
        intermediate_size: 2560,
        num_layers: 32,
        num_heads: 15,
        num_kv_heads: 5,
    },
    Shape {
        name: "SmolLM2-1.7B",
        hidden_size: 2048,
        intermediate_size: 8192,
        num_layers: 24,
        num_heads: 32,
        num_kv_heads: 32,
    },
];
/// Prompts and completions of the measurements by K and by size.
const PROMPT: usize = 350;

fn main() {
    allocator::keep_freed_memory();
    if let Some(size) = given("size") {
        let index = size.parse::<usize>().expect("size=INDEX");
        let bench = Bench::new(&SIZES[index]);
        bench.measure(64, 2, false); // warms up
        println!("{}", bench.measure(PROMPT, 4, false));
        return;
    }
    let told = |point: Point| {
        println!("{point}");
        point
    };
    let by_size: Vec<Point> = (0..SIZES.len()).map(|it| told(alone(it))).collect();
    let bench = Bench::new(&SMOLLM2_135M);
    bench.measure(64, 2, false);
    let measure = |prompt, k, apart| told(bench.measure(prompt, k, apart));
    let by_prompt: Vec<Point> = PROMPTS.iter().map(|&it| measure(it, 4, false)).collect();
    let by_k: Vec<Point> = COMPLETIONS.iter().map(|&it| measure(PROMPT, it, false)).collect();
    let few = COMPLETIONS.iter().filter(|it| **it <= MOST_APART);
    let apart: Vec<Point> = few.map(|&it| measure(PROMPT, it, true)).collect();
    if let Some(out) = given("out") {
        let figure = figure(&by_prompt, &by_k, &apart, &by_size);
        std::fs::write(out, figure.to_svg()).expect("the picture can be written");
    }
}

/// One size in a process of its own, since a process keeps the memory it freed.
fn alone(size: usize) -> Point {
    let program = std::env::current_exe().expect("this program");
    let given = std::env::args().skip(1).filter(|it| !it.starts_with("out="));
    let run = Command::new(program).arg(format!("size={size}")).args(given).output();
    let run = run.expect("this program can be started again");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("what `main` prints")
}

type Subject = Trainee<Aligner<Decoder>>;

struct Bench {
    trainee: Subject,
    model: &'static str,
    /// Of the blocks, and of the embedding, which is the vocabulary head as well.
    parameters: [usize; 2],
    /// Extents of the largest weight of a block.
    feed_forward: [usize; 2],
    device: Device,
    completion: usize,
    repeats: usize,
}

/// What one group takes.
#[derive(Serialize, Deserialize)]
struct Point {
    model: String,
    parameters: usize,
    prompt: usize,
    completions: usize,
    /// Whether the prompt was read for every completion.
    apart: bool,
    tokens: usize,
    seconds: f64,
    ms_per_token: f64,
    /// What the matrix products with parameters would take alone.
    products_seconds: f64,
    peak_memory_bytes: u64,
}

impl std::fmt::Display for Point {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&serde_json::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}

impl Bench {
    fn new(shape: &Shape) -> Self {
        let device = Device::flex().autodiff();
        let decoder = decoder(shape, &device);
        let embedding = decoder.head_weight().shape().num_elements();
        let blocks = decoder.num_params() - embedding;
        let objective = ExoRwConfig::new().init().expect("defaults");
        Self {
            trainee: Trainee::new(Aligner::new(decoder, Arc::new(objective), 1.0), Precision::F32),
            model: shape.name,
            parameters: [blocks, embedding],
            feed_forward: [shape.hidden_size, shape.intermediate_size],
            device,
            completion: number("completion", 40),
            repeats: number("repeats", 1),
        }
    }

    /// The gradient of one group of `completions`, read at once or `apart`.
    fn measure(&self, prompt: usize, completions: usize, apart: bool) -> Point {
        let whole = group(1, prompt, completions, self.completion);
        let groups = match apart {
            // K groups of one completion: nothing is shared.
            true => whole.completions.iter().map(|it| single(&whole, it)).collect(),
            false => vec![whole],
        };
        let tokens = groups.iter().map(TokenGroup::num_tokens).sum();
        let speed = || products_per_second(tokens, self.feed_forward);
        let before = speed();
        forget_peak_memory();
        let started = Instant::now();
        for _ in 0..self.repeats {
            let step = Step {
                micro_batches: vec![micro_batch(&groups, groups.len(), &self.device)],
                num_groups: groups.len(),
                num_tokens: tokens,
                ..Step::default()
            };
            std::hint::black_box(TrainStep::step(&self.trainee, step));
        }
        let seconds = started.elapsed().as_secs_f64() / self.repeats as f64;
        let peak_memory_bytes = peak_memory_bytes();
        // Forward, and backward for both factors; logits of completions alone.
        let [blocks, embedding] = self.parameters;
        let products = 3 * (blocks * tokens + embedding * completions * self.completion);
        Point {
            model: self.model.to_owned(),
            parameters: blocks + embedding,
            prompt,
            completions,
            apart,
            tokens,
            seconds,
            ms_per_token: 1e3 * seconds / tokens as f64,
            products_seconds: products as f64 / (0.5 * (before + speed())),
            peak_memory_bytes,
        }
    }
}

/// Multiplications with their additions that a second has in products of a step's size: the median
/// of several.
fn products_per_second(rows: usize, [inputs, outputs]: [usize; 2]) -> f64 {
    let device = Device::flex();
    let factor = |shape| Tensor::<2>::random(shape, Distribution::Default, &device);
    let (x, weight) = (factor([rows, inputs]), factor([inputs, outputs]));
    let mut seconds = [0.0; 11];
    for seconds in &mut seconds {
        let started = Instant::now();
        std::hint::black_box(product(x.clone(), weight.clone()));
        *seconds = started.elapsed().as_secs_f64();
    }
    seconds.sort_by(f64::total_cmp);
    (rows * inputs * outputs) as f64 / seconds[seconds.len() / 2]
}

fn single(group: &TokenGroup, completion: &[u32]) -> TokenGroup {
    TokenGroup {
        prompt: group.prompt.clone(),
        completions: vec![completion.to_vec()],
        rewards: vec![0.0],
        ..TokenGroup::default()
    }
}

fn figure(by_prompt: &[Point], by_k: &[Point], apart: &[Point], by_size: &[Point]) -> Figure {
    type Value = fn(&Point) -> f64;
    let plot = |title: &str, [x_name, y_name]: [&str; 2], curves| Plot {
        title: title.to_owned(),
        x_name: x_name.to_owned(),
        y_name: y_name.to_owned(),
        y_holds: Some(0.0),
        content: Content::Curves(curves),
    };
    let curve = |name: &str, style: Style, points: &[Point], x: Value, y: Value| Curve {
        name: name.to_owned(),
        style,
        line: Line::Marked,
        points: points.iter().map(|it| (x(it), y(it))).collect(),
    };
    let [ours, other] = [Divergence::Reverse, Divergence::Forward]
        .map(|divergence| Style::of_objective(divergence, Takes::Rewards, 0));
    let k: Value = |it| it.completions as f64;
    let millions: Value = |it| it.parameters as f64 / 1e6;
    let seconds: Value = |it| it.seconds;
    let gigabytes: Value = |it| it.peak_memory_bytes as f64 / 1e9;
    let per_token: Value = |it| it.ms_per_token;
    let once_and_apart = |y: Value| {
        vec![
            curve("prompt read once", ours, by_k, k, y),
            curve("prompt read K times", other, apart, k, y),
        ]
    };
    Figure {
        description: "Time and memory of a training step against K, the prompt's length and the \
                      model's size"
            .to_owned(),
        rows: vec![
            vec![
                plot("A group of K completions", ["K", "seconds"], once_and_apart(seconds)),
                plot("Memory of the process", ["K", "GB"], once_and_apart(gigabytes)),
            ],
            vec![
                plot(
                    "Per token, K from 2 to 32",
                    ["tokens of the group", "ms"],
                    vec![curve("", ours, by_k, |it| it.tokens as f64, per_token)],
                ),
                plot(
                    "Per token, prompts of 64 to 1024",
                    ["tokens of the prompt", "ms"],
                    vec![curve("", ours, by_prompt, |it| it.prompt as f64, per_token)],
                ),
            ],
            vec![
                plot(
                    "A group of 4, by the model's size",
                    ["million parameters", "seconds"],
                    vec![
                        curve("whole", ours, by_size, millions, seconds),
                        curve("products alone", other, by_size, millions, |it| it.products_seconds),
                    ],
                ),
                plot(
                    "Memory, by the model's size",
                    ["million parameters", "GB"],
                    vec![
                        curve("whole", ours, by_size, millions, gigabytes),
                        curve("parameters, gradients", other, by_size, millions, |it| {
                            8e-9 * it.parameters as f64
                        }),
                    ],
                ),
            ],
        ],
    }
}
