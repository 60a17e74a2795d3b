//! `stormglass hash-prefix`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use stormglass::config::Settings;
use stormglass::tenants::{PrefixNames, bytes_of_name, is_special};

use super::ConfigArguments;
use super::table::show;

#[derive(Debug, Args)]
pub(super) struct HashPrefixArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Prefixes as a rule has them: `cart`, not `cart:`.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

pub(super) fn run(arguments: &HashPrefixArguments) -> Result<ExitCode> {
    let mut settings = arguments.config.load()?;
    let known = settings.warnings.len();
    let Some(names) = settings.hashed_names()? else {
        bail!(
            "there is no key in {} yet: the agent makes it at its first start with `keys.hash_prefixes = true`, or \
             `keys.hash_key_file` names one",
            settings.alerts.dir.display()
        );
    };
    for warning in settings
        .warnings
        .iter()
        .skip(known)
        .cloned()
        .chain(notes(&settings, arguments))
    {
        eprintln!("warning: {warning}");
    }
    show(&lines(&names, &arguments.names))?;
    Ok(ExitCode::SUCCESS)
}

/// `hash  name`, a line for each.
fn lines(names: &PrefixNames, prefixes: &[String]) -> String {
    let lines = prefixes
        .iter()
        .map(|prefix| format!("{}  {prefix}\n", names.of(prefix)));
    lines.collect()
}

/// What may not be meant.
fn notes(settings: &Settings, arguments: &HashPrefixArguments) -> Vec<String> {
    let mut notes = Vec::new();
    if !settings.keys.hash_prefixes {
        notes.push(
            "`keys.hash_prefixes` is not set: an agent with this configuration shows prefixes as they are"
                .into(),
        );
    }
    for name in &arguments.names {
        if !is_special(name) && bytes_of_name(name).is_none() {
            notes.push(format!(
                "no row is called {name:?}: bytes that are no text, and backslashes, are written \\xNN"
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_behind_its_hash_and_special_rows_behind_themselves() {
        let names = PrefixNames::hashed(b"0123456789abcdef");
        let prefixes = ["cart", "(none)"].map(String::from);
        assert_eq!(
            lines(&names, &prefixes),
            "#251e78d62802e08c  cart\n(none)  (none)\n"
        );
    }

    #[test]
    fn a_name_that_no_row_has_is_pointed_out() {
        let arguments = HashPrefixArguments {
            config: ConfigArguments { config: None },
            names: ["cart", "(none)", r"\x41", r"\xff"].map(String::from).into(),
        };
        let mut settings = Settings::default();
        settings.keys.hash_prefixes = true;
        let notes = notes(&settings, &arguments);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("x41"), "{notes:?}");
    }
}
