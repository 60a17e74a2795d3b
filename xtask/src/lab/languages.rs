//! Fleets of clients in languages that the machine may have: go-redis in Go, Lettuce in Java. What is not there is not brought, and what
//! needs it is skipped aloud.

use std::path::Path;
use std::process::Command;
use std::{fmt, fs};

use anyhow::{Context as _, Result, ensure};

use super::{Lab, part};
use crate::process::{Run as _, say};

const GO: &str = "tests/live/clients/go";
const GO_FILES: [&str; 5] = ["go.mod", "go.sum", "main.go", "v8.go", "v9.go"];

const JAVA: &str = "tests/live/clients/java";
const JAVA_FILES: [&str; 3] = ["Fleet.java", "jars.sha256", "pom.xml"];

/// Which part of Maven fetches what a project needs.
const MAVEN_COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// A language that this machine lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// What is missing.
    pub(crate) what: &'static str,
    /// Names of the live tests that need it begin with this.
    pub(crate) tests: &'static str,
}

/// Builds the fleets, and returns what could not be had.
pub(super) fn ensure_fleets(lab: &Lab) -> Result<Vec<Lacking>> {
    let go = Lacking {
        what: "Go with its module proxy",
        tests: "libraries::go_redis",
    };
    let java = Lacking {
        what: "Java with Maven",
        tests: "libraries::lettuce",
    };
    let mut lacking = Vec::new();
    for (language, brought) in [(go, ensure_go(lab)), (java, ensure_java(lab))] {
        match brought {
            Ok(()) => {}
            Err(error) if error.is::<Absent>() => {
                say(format!(
                    "there is no {} on this machine: {error:#}",
                    language.what
                ));
                lacking.push(language);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(lacking)
}

/// The machine does not have it, or not the network for it; everything else that goes wrong is a mistake.
#[derive(Debug)]
struct Absent;

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its tests will be skipped")
    }
}

fn ensure_go(lab: &Lab) -> Result<()> {
    let recipe = recipe(lab, "go-redis v8 and v9", GO, &GO_FILES)?;
    part::ensure(lab, "go-redis-fleet", &recipe, |folder| {
        let (modules, cache) = (folder.join("modules"), folder.join("cache"));
        let go = |arguments: &[&str]| {
            Command::new("go")
                .args(arguments)
                .current_dir(folder)
                .envs([("GOMODCACHE", &modules), ("GOCACHE", &cache)])
                // Neither another toolchain nor what a user has set.
                .envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", "-modcacherw -mod=readonly")])
                .env("CGO_ENABLED", "0")
                .read()
        };
        copy(lab, GO, &GO_FILES, folder)?;
        go(&["mod", "download"]).map_err(|error| {
            // Other bytes than those that go.sum lists.
            let wrong = format!("{error:#}").contains("SECURITY ERROR");
            if wrong { error } else { error.context(Absent) }
        })?;
        go(&["build", "-buildvcs=false", "-trimpath", "-o", "go-redis-fleet"])?;
        for scaffold in [&modules, &cache] {
            fs::remove_dir_all(scaffold)?;
        }
        part::offer(lab, folder, &folder.join("go-redis-fleet"))
    })
}

fn ensure_java(lab: &Lab) -> Result<()> {
    let recipe = recipe(lab, "Lettuce", JAVA, &JAVA_FILES)?;
    part::ensure(lab, "lettuce-fleet", &recipe, |folder| {
        let (jars, repository) = (folder.join("jars"), folder.join("repository"));
        copy(lab, JAVA, &JAVA_FILES, folder)?;
        Command::new("javac").arg("--version").read().context(Absent)?;
        Command::new("mvn")
            .args(["--quiet", "--batch-mode", MAVEN_COPY])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .arg(format!("-Dmaven.repo.local={}", repository.display()))
            .current_dir(folder)
            .read()
            .context(Absent)?;
        fs::remove_dir_all(&repository)?;
        check_jars(folder, &jars)?;
        Command::new("javac")
            .args([
                "-Xlint:all",
                "-Werror",
                "-d",
                "classes",
                "-cp",
                "jars/*",
                "Fleet.java",
            ])
            .current_dir(folder)
            .read()?;
        let script = format!(
            "#!/bin/sh\nexec java -Xmx256m -cp \"{0}/jars/*:{0}/classes\" Fleet \"$@\"\n",
            folder.display()
        );
        part::offer_script(lab, "lettuce-fleet", &script)
    })
}

/// Maven has no lock file: these are the bytes that were reviewed, and no others.
fn check_jars(folder: &Path, jars: &Path) -> Result<()> {
    Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "../jars.sha256"])
        .current_dir(jars)
        .read()?;
    let listed = fs::read_to_string(folder.join("jars.sha256"))?.lines().count();
    let present = fs::read_dir(jars)?.count();
    ensure!(
        present == listed,
        "Maven brought {present} files, and {JAVA}/jars.sha256 lists {listed}"
    );
    Ok(())
}

/// What is built, by the text of its files.
fn recipe(lab: &Lab, name: &str, source: &str, files: &[&str]) -> Result<String> {
    let mut text = String::new();
    for file in files {
        let path = lab.workspace().join(source).join(file);
        text += &fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(format!("{name} of {source} {:016x}", part::fingerprint(&text)))
}

fn copy(lab: &Lab, source: &str, files: &[&str], folder: &Path) -> Result<()> {
    for file in files {
        fs::copy(lab.workspace().join(source).join(file), folder.join(file))?;
    }
    Ok(())
}
