//! The command line: what a user types, and the exit codes they see. Must never hold what a command
//! does, only which there are.

mod against;
mod alter;
mod certs;
mod check_conf;
mod client;
mod compare;
mod dump;
mod exit;
mod forget;
mod open;
mod output;
mod quickstart;
mod repair;
mod serve;
mod show;
mod sql;
mod status;
mod surroundings;
mod table;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use replica::certs::CertRole;

use crate::telemetry::{self, LogFormat};
use client::DEFAULT_URL;
use exit::{BAD_INPUT, FAILURE, NOT_COMPARED, fail, judged, judged_or, quietly};

#[derive(Debug, Parser)]
#[command(
    name = "headwater",
    version,
    about = "A time-series database: MQTT in, SQL out, with read-only secondaries"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a primary and a secondary with simulated devices, to see it work
    Quickstart(quickstart::Options),
    /// Run the node that a conf file describes
    Serve(ServeArgs),
    /// Check a conf file, and what a message would become
    CheckConf(CheckConfArgs),
    /// Make the certificates that nodes know each other by
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Ask a node one SQL statement
    Sql(SqlArgs),
    /// Show the cluster as a tree, as far as a node knows it
    Status(StatusArgs),
    /// Check every stored block and file; exit code 1 and a list if anything is wrong
    Verify(VerifyArgs),
    /// Look for blocks of a stopped node that keep it from starting, and bring them from another
    /// node; without another node see `headwater open`
    Repair(RepairArgs),
    /// Say what keeps the log of a stopped node from being opened (exit code 1 then) and what going on
    /// without it would lose; does so only with one of the options
    Open(OpenArgs),
    /// Strike a secondary that is gone off the list of those that a node has seen
    Forget(ForgetArgs),
    /// What an operator does about one table
    #[command(subcommand)]
    Table(alter::TableCommand),
    /// Print the rows of segment files, such as those kept aside under data/diverged
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The node's conf file
    #[arg(long, value_name = "FILE")]
    conf: PathBuf,
    /// Override one key; may be given more than once
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// How log lines on standard error look
    #[arg(long, value_enum, default_value_t)]
    log: LogFormat,
}

#[derive(Debug, Args)]
struct CheckConfArgs {
    /// The conf file
    file: PathBuf,
    /// Override one key; may be given more than once
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Topic of a message to try
    #[arg(long, requires = "payload")]
    topic: Option<String>,
    /// Payload of a message to try
    #[arg(long, requires = "topic")]
    payload: Option<String>,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Make a cluster's certificate authority in DIR
    Init { dir: PathBuf },
    /// Make DIR/NAME/{ca.pem,cert.pem,key.pem} for one node
    Node {
        dir: PathBuf,
        name: String,
        /// What the node may do: be the primary; relay; or follow only. Unless it is given, a NAME
        /// that begins with secondary or relay may relay, and any other be the primary
        #[arg(long, value_name = "primary|relay|secondary")]
        role: Option<CertRole>,
        /// Host name or IP address that others reach the node by; may be given more than once
        #[arg(long, value_name = "HOST_OR_IP")]
        san: Vec<String>,
    },
    /// Revoke the certificate DIR/NAME/cert.pem, by the list DIR/crl.pem and a copy for each node
    Revoke { dir: PathBuf, name: String },
}

#[derive(Debug, Args)]
struct SqlArgs {
    /// The node to ask
    #[arg(long, default_value = DEFAULT_URL)]
    url: String,
    /// How the answer looks
    #[arg(long, value_enum, default_value_t)]
    format: sql::Format,
    /// The statement
    #[arg(value_name = "SELECT ...")]
    statement: String,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// The node to ask
    #[arg(long, default_value = DEFAULT_URL)]
    url: String,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The data directory of a stopped node
    #[arg(required_unless_present = "url", conflicts_with = "url")]
    data_dir: Option<PathBuf>,
    /// A running node that is to check what it holds
    #[arg(long)]
    url: Option<String>,
    /// Another running node that must hold the same; exit code 1 and a list if the two differ or
    /// are faulty, 2 if one cannot be asked or there is nothing to compare
    #[arg(
        long,
        value_name = "URL",
        requires = "url",
        conflicts_with = "data_dir"
    )]
    against: Option<String>,
}

#[derive(Debug, Args)]
struct RepairArgs {
    /// The data directory of a stopped node
    data_dir: PathBuf,
    /// The data directory of another stopped node of the cluster, or a copy: it has the same bytes
    #[arg(long, value_name = "OTHER_DATA_DIR", conflicts_with = "yes_lose")]
    from: Option<PathBuf>,
    /// Go on without what cannot be read and all that follows; a copy is kept. `headwater open` says
    /// more of what is lost, and can keep what follows
    #[arg(long)]
    yes_lose: bool,
}

#[derive(Debug, Args)]
struct OpenArgs {
    /// The data directory of a stopped node
    data_dir: PathBuf,
    /// Cut the log off where it cannot be read; a copy of what is cut is kept
    #[arg(long, conflicts_with = "accept_hole")]
    cut_tail: bool,
    /// Leave out what cannot be read and keep what follows, under other LSNs; a copy is kept
    #[arg(long)]
    accept_hole: bool,
}

#[derive(Debug, Args)]
struct ForgetArgs {
    /// The node that keeps the list
    #[arg(long, default_value = DEFAULT_URL)]
    url: String,
    /// The secondary, as `headwater status` calls it, or its id
    #[arg(value_name = "NAME_OR_ID", value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Debug, Args)]
struct DumpArgs {
    /// Segment files; of a directory, all that lie below it
    #[arg(value_name = "FILE_OR_DIR", required = true)]
    files: Vec<PathBuf>,
    /// How rows are written
    #[arg(long, value_enum, default_value_t)]
    format: dump::Format,
}

/// Runs the program with the arguments of its command line, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            if error.use_stderr() {
                return ExitCode::from(BAD_INPUT);
            }
            output::note(printed);
            return output::end(ExitCode::SUCCESS, FAILURE);
        }
    };
    // Of a comparison that nobody could read nothing is known.
    let failure = match &cli.command {
        Command::Verify(args) if args.against.is_some() => NOT_COMPARED,
        _ => FAILURE,
    };
    let code = output::end(carry_out(cli.command), failure);
    telemetry::flush();
    code
}

fn carry_out(command: Command) -> ExitCode {
    match command {
        Command::Serve(args) => serve::run(&args.conf, &args.set, args.log),
        Command::CheckConf(args) => {
            let message = args.topic.zip(args.payload);
            check_conf::run(&args.file, &args.set, message)
        }
        Command::Quickstart(options) => quietly(|| quickstart::run(&options)),
        Command::Certs(CertsCommand::Init { dir }) => quietly(|| certs::init(&dir)),
        Command::Certs(CertsCommand::Node {
            dir,
            name,
            role,
            san,
        }) => quietly(|| certs::node(&dir, &name, role, &san)),
        Command::Certs(CertsCommand::Revoke { dir, name }) => {
            quietly(|| certs::revoke(&dir, &name))
        }
        Command::Sql(args) => quietly(|| sql::run(&args.url, args.format, &args.statement)),
        Command::Status(args) => quietly(|| status::run(&args.url)),
        Command::Verify(args) => match (args.url, args.against, args.data_dir) {
            (Some(url), Some(against), _) => {
                judged_or(NOT_COMPARED, || against::nodes(&url, &against))
            }
            (Some(url), None, _) => judged(|| verify::node(&url)),
            (None, _, Some(dir)) => judged(|| verify::directory(&dir)),
            (None, _, None) => fail(&"verify needs DATA_DIR or --url URL", BAD_INPUT),
        },
        Command::Repair(args) => {
            let means = match (&args.from, args.yes_lose) {
                (Some(other), _) => repair::Means::From(other),
                (None, true) => repair::Means::Lose,
                (None, false) => repair::Means::Look,
            };
            judged(|| repair::run(&args.data_dir, means))
        }
        Command::Open(args) => {
            let what = match (args.cut_tail, args.accept_hole) {
                (true, _) => Some(wal::GiveUp::Tail),
                (false, true) => Some(wal::GiveUp::Hole),
                (false, false) => None,
            };
            judged(|| open::run(&args.data_dir, what))
        }
        Command::Forget(args) => quietly(|| forget::run(&args.url, &args.name)),
        Command::Table(command) => quietly(|| alter::run(&command)),
        Command::Dump(args) => judged(|| dump::run(&args.files, args.format)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn who_cannot_be_compared_does_not_differ() {
        let words = ["headwater", "verify", "--url", "none", "--against", "none"];
        assert_eq!(run(words.map(OsString::from)), ExitCode::from(NOT_COMPARED));
        let words = ["headwater", "verify", "--url", "none"];
        assert_eq!(run(words.map(OsString::from)), ExitCode::from(FAILURE));
    }

    #[test]
    fn a_message_needs_topic_and_payload() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));
        assert!(parse("headwater check-conf a.toml --topic t --payload p").is_ok());
        assert!(parse("headwater check-conf a.toml --topic t").is_err());
        assert!(parse("headwater quickstart --secondaries 0").is_err());
        assert!(parse("headwater sql").is_err());
        assert!(parse("headwater certs revoke certs n1").is_ok());
        assert!(parse("headwater certs revoke certs").is_err());
        assert!(parse("headwater verify data").is_ok());
        assert!(parse("headwater verify --url http://a").is_ok());
        assert!(parse("headwater verify").is_err());
        assert!(parse("headwater verify data --url http://a").is_err());
        assert!(parse("headwater verify --url http://a --against http://b").is_ok());
        assert!(parse("headwater verify --against http://b").is_err());
        assert!(parse("headwater verify data --against http://b").is_err());
        assert!(parse("headwater open --cut-tail data").is_ok());
        assert!(parse("headwater open --cut-tail --accept-hole data").is_err());
        assert!(parse("headwater forget --url http://a node-1").is_ok());
        assert!(parse("headwater forget").is_err());
        // An empty name.
        assert!(parse("headwater forget ").is_err());
        assert!(parse("headwater table rename-column plant site place --url http://a").is_ok());
        assert!(parse("headwater table rename-column plant site").is_err());
        assert!(parse("headwater table rename plant works --url http://a").is_ok());
        assert!(parse("headwater table rename plant").is_err());
        assert!(parse("headwater table change-type plant state text").is_ok());
        assert!(parse("headwater table change-type plant state").is_err());
        assert!(parse("headwater table change-role plant site tag").is_ok());
        assert!(parse("headwater dump a.log data/diverged --format csv").is_ok());
        assert!(parse("headwater dump").is_err());
    }
}
