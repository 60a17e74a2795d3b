//! docs/CONFIGURATION.md, written from the example file, which has every key with its default and its edges. A test holds the
//! example to the types that are read; this one holds the page to the example.

use std::path::Path;

const EXAMPLE: &str = include_str!("../../../deploy/stormglass.example.toml");

const HEAD: &str = "# Configuration

Written from deploy/stormglass.example.toml; do not edit. After a change of it: `STORMGLASS_BLESS=1 cargo test -p stormglass reference`.

";

#[test]
fn the_checked_in_page_is_the_example() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    if std::env::var_os("STORMGLASS_BLESS").is_some() {
        std::fs::write(&path, page()).expect("docs/CONFIGURATION.md can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/CONFIGURATION.md is not what the example says: STORMGLASS_BLESS=1 cargo test -p stormglass reference"
    );
}

/// Sections as headings, keys as entries of a list, what is above them as their text.
fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut said: Vec<&str> = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    let mut skipping = false;
    for line in EXAMPLE.lines() {
        let line = suggested(line);
        if line.starts_with('[') {
            // A second table of a kind is one more example.
            skipping = known.contains(&line);
            known.push(line);
            if !skipping {
                page += &format!("\n## `{line}`\n\n{}", paragraph(&mut said));
            }
        } else if let Some(text) = line.strip_prefix("# ").filter(|_| !is_key(line)) {
            said.push(text);
        } else if line.is_empty() && known.is_empty() {
            page += &paragraph(&mut said);
        } else if let Some((key, value)) = entry(line).filter(|_| !skipping) {
            let text = parts(&said.join(" "));
            said.clear();
            page += &format!("### `{key}`\n\n```toml\n{key} = {value}\n```\n\n{text}\n\n");
        }
    }
    format!("{}\n", page.trim_end())
}

/// A line that is only suggested, as if it were one: `#` and no space.
fn suggested(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest,
        _ => line,
    }
}

/// Keys without a default are comments: `# key = value`.
fn is_key(line: &str) -> bool {
    entry(line).is_some()
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")?;
    let named = !key.is_empty() && key.chars().all(|sign| sign.is_ascii_lowercase() || sign == '_');
    named.then_some((key, value))
}

fn paragraph(said: &mut Vec<&str>) -> String {
    let text = said.join(" ");
    said.clear();
    if text.is_empty() {
        text
    } else {
        format!("{text}\n\n")
    }
}

/// What it is; then default, edges, and who should change it.
fn parts(text: &str) -> String {
    let text = text.replacen(" Default: ", "\n\nDefault: ", 1);
    text.replacen(" Edge: ", "\n\nEdges: ", 1)
}
