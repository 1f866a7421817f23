//! Arguments become a command, a command becomes an exit code: 0 done or well, 1 refused, failed or rolled back, 2 not
//! understood, and of `status` also that no process answers.
//! It must not do a command's work; one file for each command does.
//! Called by `main`, also of programs that bring plugins of their own.

/// As the standard library's, but a reader who has seen enough (`| head`) is no reason to panic.
macro_rules! print {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stdout(), $($part)*);
    }};
}

/// See [`print!`].
macro_rules! println {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}

mod ca;
mod cache;
mod capture;
mod certs;
mod client;
mod commands;
mod confirm;
mod connection;
mod demo;
mod explain;
mod import;
mod junit;
mod mesh;
mod plan;
mod plugin;
mod replay;
mod run;
mod status;
mod story;
mod who_can;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use commands::Judging;
use windrose_plugins::PluginDef;

/// A programmable proxy for both directions of traffic: API gateway at the edge, mesh proxy on the node.
#[derive(Parser)]
#[command(
    name = "windrose",
    version,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<CliCommand>,
    #[command(flatten)]
    top: Top,
}

/// What nginx users type.
#[derive(Args)]
struct Top {
    /// The configuration file.
    #[arg(short, long, default_value = "windrose.yaml")]
    config: PathBuf,
    /// Only check the configuration.
    #[arg(short = 't', conflicts_with = "show")]
    test: bool,
    /// Check the configuration and print it in full, secrets redacted.
    #[arg(short = 'T')]
    show: bool,
    /// Take over the listening sockets of the process that runs.
    #[arg(short, long)]
    upgrade: bool,
}

#[derive(Args)]
struct File {
    /// The configuration file.
    #[arg(short, long, global = true, default_value = "windrose.yaml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Run the proxy.
    Run {
        #[command(flatten)]
        file: File,
        /// Take over the listening sockets of the process that runs.
        #[arg(short, long)]
        upgrade: bool,
    },
    /// Check a configuration and run its tests.
    Check {
        #[command(flatten)]
        file: File,
        /// Print findings as JSON.
        #[arg(long)]
        json: bool,
        /// Write the outcome of the configuration's tests to a file in JUnit's form.
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        /// Refuse only what `run` would refuse: what it would quarantine is told and let pass.
        #[arg(long)]
        as_run: bool,
    },
    /// Print the effective configuration with every default, secrets redacted.
    Show(File),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// List the plugins, or print the manual of one.
    Plugins {
        /// The plugin's kind.
        kind: Option<String>,
    },
    /// Write a plugin of your own.
    Plugin {
        #[command(subcommand)]
        act: plugin::Act,
    },
    /// Write a configuration of what others describe.
    Import {
        #[command(subcommand)]
        act: import::Act,
    },
    /// Reload the running process and wait for the outcome.
    Reload {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        probation: confirm::Probation,
    },
    /// Keep the configuration that is on probation.
    Confirm(File),
    /// Go back at once to the configuration before the one on probation.
    Rollback(File),
    /// Show on one screen whether all is well; exit code 0 if it is, 1 if something needs attention, 2 if no process answers.
    Status {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        look: status::Look,
    },
    /// Replace the running process by this binary without closing a socket, and wait for the outcome.
    Upgrade(File),
    /// Ask whether the running process is ready; exit code 0 if it is.
    Ready(File),
    /// Tell where a request would go and why, step by step, each with the line of the configuration that says so.
    Explain {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        wish: Box<explain::Wish>,
    },
    /// Tell who may call something, by edge and mesh rules together, with the line that decides; exit code 0 if anybody can.
    WhoCan {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        wish: who_can::Wish,
    },
    /// Tell what a new configuration would change: objects, precedence, and the fate of recorded requests.
    Plan {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        wish: plan::Wish,
    },
    /// Explain a cause, such as `no_route`, or tell the story of a request by its id; without a word, list the causes.
    Why {
        /// The cause's name, or a request id or trace id that the running process is asked about.
        word: Option<String>,
        #[command(flatten)]
        file: File,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write every record of the running process's flight recorder into one JSON document.
    Bundle {
        #[command(flatten)]
        file: File,
        /// Where to write it, readable by its owner only. Default: standard output.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Make the decisions of a recorder's bundle again, on a configuration of choice.
    Replay {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        wish: replay::Wish,
    },
    /// Show what the caches of the running process hold, or purge them.
    Cache {
        #[command(flatten)]
        file: File,
        #[command(subcommand)]
        act: cache::Act,
    },
    /// Show the clock of every certificate of the running process: how long its source may stay away, and who falls first. Exit code 1 for an alarm, 2 if no process answers.
    Certs {
        #[command(flatten)]
        file: File,
        /// Print what the process says as JSON.
        #[arg(long)]
        json: bool,
    },
    /// The built-in authority of a mesh: certificates for workloads, short-lived, renewed by themselves.
    Ca {
        #[command(subcommand)]
        act: ca::Act,
    },
    /// Bring connections of applications that know nothing of it to the proxy, with rules of the kernel.
    Capture {
        #[command(flatten)]
        file: File,
        #[command(subcommand)]
        act: Box<capture::Act>,
    },
    /// Look at this node of the mesh from inside.
    Mesh {
        #[command(flatten)]
        file: File,
        #[command(subcommand)]
        act: mesh::Act,
    },
    /// Connect to where nobody is; `mesh check` runs it as the user that is captured.
    #[command(hide = true)]
    ProbeConnection(mesh::Canary),
    /// Run a demonstration: an ingress, two mesh nodes and small services, with commands to try.
    Demo {
        /// Try the commands itself, print what came of each, and end.
        #[arg(long)]
        check: bool,
    },
}

/// Runs the command line over the tables of plugins; the built-in ones are `windrose_plugins::BUILTIN`.
pub fn main(tables: &[&[PluginDef]]) -> ExitCode {
    let plugins: &'static [PluginDef] = Box::leak(tables.concat().into_boxed_slice());
    let cli = Cli::parse();
    let top = cli.top;
    match cli.command {
        None if top.test => commands::check(&top.config, plugins, Judging::default()),
        None if top.show => commands::show(&top.config, plugins),
        None => run::run(top.config, plugins, top.upgrade),
        Some(CliCommand::Run { file, upgrade }) => run::run(file.config, plugins, upgrade),
        Some(CliCommand::Check {
            file,
            json,
            junit,
            as_run,
        }) => {
            let junit = junit.as_deref();
            let judging = Judging {
                json,
                junit,
                as_run,
            };
            commands::check(&file.config, plugins, judging)
        }
        Some(CliCommand::Show(file)) => commands::show(&file.config, plugins),
        Some(CliCommand::Schema) => commands::schema(plugins),
        Some(CliCommand::Plugins { kind }) => commands::plugins(kind.as_deref(), plugins),
        Some(CliCommand::Plugin { act }) => plugin::run(&act, plugins),
        Some(CliCommand::Import { act }) => import::run(&act),
        Some(CliCommand::Reload { file, probation }) => confirm::reload(&file.config, &probation),
        Some(CliCommand::Confirm(file)) => confirm::confirm(&file.config),
        Some(CliCommand::Rollback(file)) => confirm::roll_back(&file.config),
        Some(CliCommand::Status { file, look }) => status::status(&file.config, &look),
        Some(CliCommand::Upgrade(file)) => client::upgrade(&file.config),
        Some(CliCommand::Ready(file)) => client::ready(&file.config),
        Some(CliCommand::Explain { file, wish }) => explain::run(&file.config, *wish, plugins),
        Some(CliCommand::WhoCan { file, wish }) => who_can::run(&file.config, &wish, plugins),
        Some(CliCommand::Plan { file, wish }) => plan::run(&file.config, &wish, plugins),
        Some(CliCommand::Why { word, file, json }) => {
            let form = if json {
                why::Form::Json
            } else {
                why::Form::Text
            };
            why::why(word.as_deref(), &file.config, form, plugins)
        }
        Some(CliCommand::Bundle { file, output }) => why::bundle(&file.config, output.as_deref()),
        Some(CliCommand::Replay { file, wish }) => replay::run(&file.config, &wish, plugins),
        Some(CliCommand::Cache { file, act }) => cache::run(&file.config, &act),
        Some(CliCommand::Certs { file, json }) => certs::certs(&file.config, json),
        Some(CliCommand::Ca { act }) => ca::run(act),
        Some(CliCommand::Capture { file, act }) => capture::run(&file.config, &act, plugins),
        Some(CliCommand::Mesh { file, act }) => mesh::run(&file.config, &act, plugins),
        Some(CliCommand::ProbeConnection(canary)) => canary.fly(),
        Some(CliCommand::Demo { check }) => demo::run(check),
    }
}
