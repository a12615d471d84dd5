//! `exalign`: the paper's experiments, or any stage of them, from one binary.

#![deny(unsafe_code)]

mod allocator;
mod command_line;
mod context;
mod grammar;
mod graph;
mod judging;
mod merging;
mod model_input;
mod output;
mod partial;
mod protocol;
mod record;
mod rewarding;
mod rules;
mod run;
mod shard;
mod stage;
mod stages;
mod tasks;
mod terminal;
mod toy;
mod watch;

#[cfg(test)]
mod keys_tests;
#[cfg(test)]
#[path = "../tests/support/own_objective.rs"]
mod own_objective;
#[cfg(test)]
mod own_objective_tests;
#[cfg(test)]
mod rooms_tests;

use std::process::ExitCode;

use clap::Parser;
use exalign::{Result, interrupt};

use command_line::{Command, CommandLine};
use output::{print_line, print_text};
use terminal::{say_error, start_logging};

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    if let Err(error) = rules::register_all() {
        say_error(&error);
        return ExitCode::from(error.exit_code() as u8);
    }
    let command_line = CommandLine::parse();
    start_logging(&command_line.global);
    let stop = ctrlc::set_handler(|| {
        // The second time without waiting for a safe point.
        if interrupt::requested() {
            exalign::training::leave_screen();
            exalign::rewards::end_programs();
            std::process::exit(130);
        }
        interrupt::request();
    });
    if let Err(error) = stop {
        tracing::warn!("Ctrl-C will stop without a checkpoint: {error}");
    }
    join_the_workers(&command_line.command);
    match or_lost(command_line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

/// More threads than any machine has cores.
const MOST_THREADS: usize = 4096;

/// Makes this thread one of those that kernels share their work among: from any other, every kernel is
/// handed over and waited for, which takes longer than a small one. A thread of the pool's own would do
/// as well, but glibc gives large buffers of any thread but the first back to the system each time.
fn join_the_workers(command: &Command) {
    // A server's kernels are asked for by threads of its own, which this one would only wait for.
    #[cfg(feature = "remote")]
    if matches!(command, Command::ServeDevice(_)) {
        return;
    }
    let _ = command;
    let threads = std::env::var("RAYON_NUM_THREADS").ok().and_then(|it| it.parse().ok());
    let threads = threads
        .filter(|it| (1..=MOST_THREADS).contains(it))
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    // Alone it would leave nobody to do what other threads ask for while it waits for them.
    if threads > 1 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread();
        if let Err(error) = pool.build_global() {
            tracing::debug!("kernels run on threads apart: {error}");
        }
    }
}

/// [`dispatch`], with an error where a remote device disappears.
#[cfg(feature = "remote")]
fn or_lost(command_line: CommandLine) -> Result<()> {
    match command_line.global.device.clone() {
        Some(name) if name.contains("remote:") => {
            exalign::device::remote::or_lost(&name, || dispatch(command_line))
        }
        _ => dispatch(command_line),
    }
}

#[cfg(not(feature = "remote"))]
fn or_lost(command_line: CommandLine) -> Result<()> {
    dispatch(command_line)
}

fn dispatch(CommandLine { global, command }: CommandLine) -> Result<()> {
    if let Some(name) = command.without_settings() {
        global.refuse_settings(name)?;
    }
    match command {
        Command::Run(args) => run::run(args, &global),
        Command::Data(args) => stages::data::run(args, &global),
        Command::Check(args) => stages::check::run(&args, &global),
        Command::Sft(args) => print_line(&stages::sft::run(args, &global)?),
        Command::Reward(args) => print_line(&stages::reward::run(args, &global)?),
        Command::Sample(args) => print_line(&stages::sample::run(args, &global)?),
        Command::Label(args) => print_line(&stages::label::run(args, &global)?),
        Command::Pairs(args) => print_line(&stages::pairs::run(args, &global)?),
        Command::Align(args) => print_line(&stages::align::run(*args, &global)?),
        Command::Evaluate(args) => print_line(&stages::evaluate::run(args, &global)?),
        Command::Judge(args) => print_line(&stages::judge::run(args, &global)?),
        Command::Score(args) => stages::score::run(args, &global),
        Command::Loss(args) => stages::loss::run(&args, &global),
        Command::Info(args) => print_text(&stages::info::run(&args)?),
        Command::Merge(args) => print_line(&stages::merge::run(&args, &global)?),
        Command::MergeShards(args) => print_line(&stages::merge_shards::run(&args)?),
        #[cfg(feature = "remote")]
        Command::ServeDevice(args) => stages::serve_device::run(&args, &global),
        Command::Plan(args) => stages::plan::run(&args),
        Command::Report(args) => stages::report::run(&args),
    }
}
