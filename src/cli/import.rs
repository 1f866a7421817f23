//! Writes routes of what others describe: an OpenAPI document becomes a configuration to start from.
//! It must not check the configuration; `windrose check` does, and says so at the end.
//! Called by `cli`.

mod openapi;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// What is imported.
#[derive(Subcommand)]
pub(super) enum Act {
    /// Write routes for the operations of an OpenAPI document (3.1 or 3.0), checked by the `openapi` plugin.
    Openapi(Wish),
}

/// What is wanted.
#[derive(Args)]
pub(super) struct Wish {
    /// The document, in JSON or YAML.
    file: PathBuf,
    /// Where to write the configuration. Nothing is overwritten. Default: standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Carries it out: the configuration goes to the output, what has no equivalent to standard error.
pub(super) fn run(act: &Act) -> ExitCode {
    let Act::Openapi(wish) = act;
    let named = document_from(wish);
    let imported = match openapi::imported(&wish.file, &named) {
        Ok(imported) => imported,
        Err(flaw) => {
            let help = match wish.file.is_file() {
                true => "correct the document at that place",
                false => "give the path of a document",
            };
            eprintln!("{flaw}\n  help: {help}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(output) = &wish.output {
        if let Err(error) = put(output, &imported.text) {
            eprintln!(
                "{}: {error}\n  help: give another file with `-o`; nothing is overwritten",
                output.display()
            );
            return ExitCode::from(2);
        }
    } else {
        print!("{}", imported.text);
    }
    for note in &imported.notes {
        eprintln!("note: {note}");
    }
    let output = wish.output.as_deref().unwrap_or(Path::new("FILE"));
    eprintln!(
        "{} operations became rules; next: windrose check -c {}",
        imported.rules,
        output.display()
    );
    ExitCode::SUCCESS
}

/// The document as the configuration names it: relative to where that is written, if it lies there or below.
fn document_from(wish: &Wish) -> String {
    let Some(output) = &wish.output else {
        return wish.file.display().to_string();
    };
    let folder = output.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    let file = wish.file.canonicalize();
    match (file, folder) {
        (Ok(file), Ok(folder)) => match file.strip_prefix(&folder) {
            Ok(below) => below.display().to_string(),
            Err(_) => file.display().to_string(),
        },
        _ => wish.file.display().to_string(),
    }
}

fn put(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .open(path)?;
    file.write_all(text.as_bytes())
}
