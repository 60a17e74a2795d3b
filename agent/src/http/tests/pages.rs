//! Pages for people.

use super::*;

/// What a browser asks with.
fn browse(server: &Running, path: &str) -> String {
    server.request(&format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: text/html,*/*;q=0.8\r\n\r\n"
    ))
}

fn links(page: &str) -> Vec<String> {
    let links = [" href=\"", " src=\""].map(|attribute| {
        let found = page.split(attribute).skip(1);
        found.filter_map(|rest| rest.split('"').next().map(str::to_owned))
    });
    links.into_iter().flatten().collect()
}

#[test]
fn every_link_of_the_index_is_there_and_everything_that_is_served_is_linked() {
    let server = Running::start(report());
    let index = browse(&server, "/");
    assert_eq!(header(&index, "content-type"), Some("text/html; charset=utf-8"));
    let links = links(body(&index));
    for link in links.iter().filter(|link| link.starts_with('/')) {
        let reply = server.get(link);
        assert_eq!(status(&reply), 200, "{link}");
        assert_eq!(
            header(&reply, "x-content-type-options"),
            Some("nosniff"),
            "{link}"
        );
    }
    for page in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/v1/config",
        "/api/v1/openapi.json",
        "/incidents",
    ] {
        assert!(links.iter().any(|link| link == page), "{page} in {links:?}");
    }
    assert!(!links.iter().any(|link| link.contains("//")), "{links:?}");
}

#[test]
fn the_index_shows_what_the_api_shows() {
    let server = Running::start(report());
    let index = browse(&server, "/");
    assert_eq!(status(&index), 200);
    let page = body(&index);
    let api = json(&server.get("/api/v1/servers"));
    let shown = &api["servers"][0];
    let row = page
        .split("data-key=\"server-valkey-server:6379\">")
        .nth(1)
        .expect("its row");
    let row = row.split("</tr>").next().expect("its end");
    for (column, text) in [
        ("version", shown["version"].as_str().expect("known").to_owned()),
        ("connections", shown["connections"].to_string()),
        ("commands", shown["commands"].to_string()),
        ("bytes in", format!("{} B", shown["bytes_in"])),
        (
            "in /s",
            format!("{} B", shown["bytes_per_second"]["in"].as_f64().expect("known")),
        ),
        ("unattributed", "9 B".into()),
    ] {
        let cell = format!("data-label=\"{column}\">{text}</td>");
        assert!(row.contains(&cell), "{cell} in {row}");
    }
    for text in [
        "<bdi>checkout</bdi>",
        "<bdi>team</bdi>",
        "<bdi>checkout-api</bdi>",
        "<code><bdi>a.toml</bdi></code>, read at <time datetime=\"1970-01-02T00:00:00Z\">",
        "As of <time datetime=\"2026-11-23T05:41:46Z\">2026-11-23 05:41:46 UTC</time>",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    assert!(
        !page.contains("tenant-idle"),
        "tenants without traffic are left out"
    );
}

#[test]
fn storms_that_go_on_come_first_with_who_does_it_and_those_that_are_over_in_a_table() {
    let mut report = report();
    let culprits = &mut report.storms.active[0].culprits;
    culprits.push(culprits[0].clone());
    let server = Running::start(report);
    let index = browse(&server, "/");
    let (card, past) = (
        index.find("data-storm=\"86400000-1\""),
        index.find("data-key=\"storm-86300000-0\""),
    );
    assert!(card < past && card.is_some(), "{index}");
    for text in [
        "<h1>A storm goes on</h1>",
        "<span class=\"badge critical\">critical</span> reconnect churn at <bdi>valkey-server:6379</bdi>",
        "<li><b>92 %</b> workload <bdi>cart-api</bdi>, 4,056 connections of 312 addresses</li>",
        "<a href=\"/runbooks/reconnect_churn\">What to do</a>",
        "data-label=\"lasted\">2.0 s</td>",
    ] {
        assert!(index.contains(text), "{text} in {index}");
    }
    assert!(
        !index.contains("/incidents/86400000-1"),
        "nothing is recorded of it"
    );
}

#[test]
fn without_servers_the_index_says_how_they_are_found() {
    let server = Running::start(Report::default());
    let index = browse(&server, "/");
    for text in [
        "No storm",
        "No server listens on this host",
        "[discovery]",
        "Nobody is connected.",
    ] {
        assert!(index.contains(text), "{text} in {index}");
    }
    server.source.health.lock().expect("not poisoned").not_ready = Some("programs are not attached".into());
    let index = browse(&server, "/");
    assert!(
        !index.contains("No storm<") && index.contains("programs are not attached"),
        "{index}"
    );
}

#[test]
fn without_numbers_the_index_says_why_and_keeps_asking() {
    let server = Running::start(report());
    *server.source.report.lock().expect("not poisoned") = Err("the maps cannot be read".into());
    let index = browse(&server, "/");
    assert_eq!(status(&index), 503);
    for text in [
        "<h1>No numbers</h1>",
        "the maps cannot be read",
        "href=\"/healthz\"",
        " data-live>",
    ] {
        assert!(index.contains(text), "{text} in {index}");
    }
}

/// Names of everybody who may choose one, as somebody would choose them who wants to be more than a name.
#[test]
fn no_name_becomes_markup() {
    const HOSTILE: &str = "\"><img src=x onerror='alert(1)'>&<b>\u{202e}";
    let mut report = report();
    let server = &mut report.snapshot.servers[0];
    server.label = HOSTILE.into();
    server.prefixes[0].prefix = HOSTILE.into();
    server.libraries = vec![LibrarySnapshot {
        opened: Some(7),
        library: HOSTILE.into(),
        version: HOSTILE.into(),
        connections: 1,
    }];
    (report.tenants[0].tenant, report.tenants[0].server) = (HOSTILE.into(), HOSTILE.into());
    (report.tenant_infos[0].name, report.tenant_infos[0].owner) = (HOSTILE.into(), HOSTILE.into());
    (
        report.workloads.servers[0].server,
        report.workloads.servers[0].detailed[0].workload,
    ) = (HOSTILE.into(), HOSTILE.into());
    for storm in [&mut report.storms.active[0], &mut report.storms.over[0]] {
        (storm.server, storm.summary) = (HOSTILE.into(), HOSTILE.into());
        storm.culprits[0].name = HOSTILE.into();
    }
    report.alerts.receivers[0].receiver = HOSTILE.into();
    report.config.refused(0, HOSTILE.into());
    let server = Running::start(report);
    let index = browse(&server, "/");
    let escaped = "&quot;&gt;&lt;img src=x onerror=&#39;alert(1)&#39;&gt;&amp;&lt;b&gt;\u{202e}";
    assert!(
        index.matches(&format!("<bdi>{escaped}</bdi>")).count() >= 14,
        "{index}"
    );
    assert!(
        !index.contains("<img src=x") && !index.contains("<b>\u{202e}"),
        "{index}"
    );
    for reply in [
        browse(&server, "/%3Cimg%20src=x%3E"),
        browse(&server, "/incidents/%3Cimg%20src=x%3E"),
    ] {
        assert_eq!(status(&reply), 404);
        assert!(!reply.contains("<img src=x"), "{reply}");
    }
}

#[test]
fn pages_run_nothing_and_load_nothing_but_what_this_agent_serves() {
    let server = Running::start(report());
    for path in ["/", "/nowhere", "/incidents", "/incidents/1-1", "/incidents/2-2"] {
        let reply = browse(&server, path);
        let policy = header(&reply, "content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{policy}"
        );
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(header(&reply, "referrer-policy"), Some("no-referrer"));
        assert_eq!(header(&reply, "cache-control"), Some("no-store"));
        assert_eq!(header(&reply, "content-type"), Some("text/html; charset=utf-8"));
    }
}

#[test]
fn a_browser_keeps_files_for_ever_under_the_name_of_their_version_alone() {
    let server = Running::start(report());
    let index = browse(&server, "/");
    let files: Vec<_> = links(body(&index))
        .into_iter()
        .filter(|link| link.starts_with("/assets/"))
        .collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let reply = server.get(&file);
        assert_eq!(
            header(&reply, "cache-control"),
            Some("private, max-age=31536000, immutable"),
            "{file}"
        );
        let version = file.split('/').nth(2).expect("a version");
        let older = server.get(&file.replace(version, "00000000"));
        assert_eq!(
            (status(&older), header(&older, "cache-control")),
            (200, Some("no-store"))
        );
        assert_eq!(body(&older), body(&reply));
    }
    assert_eq!(status(&server.get("/assets/00000000/passwd")), 404);
}

#[test]
fn a_person_gets_a_page_where_a_program_gets_a_line() {
    let server = Running::start(report());
    let page = browse(&server, "/nope");
    assert_eq!(status(&page), 404);
    assert!(
        page.contains("<h1>No such page</h1>") && page.contains("<a href=\"/\">"),
        "{page}"
    );
    assert_eq!(body(&server.get("/nope")), "no such page; / lists them\n");
    let head = server.request("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!((status(&head), body(&head)), (200, ""));
    let length: usize = header(&head, "content-length")
        .and_then(|length| length.parse().ok())
        .expect("a length");
    assert!(length > 5_000, "{head}");
}

#[test]
fn an_incident_is_listed_and_shown_with_its_course_as_picture_and_as_table() {
    let server = Running::start(report());
    let list = browse(&server, "/incidents");
    assert!(list.contains("<a href=\"/incidents/1-1\"><time"), "{list}");
    let page = browse(&server, "/incidents/1-1");
    assert_eq!(status(&page), 200);
    for text in [
        "<title>reconnect churn at valkey-server:6379 · ",
        "reconnect churn: 92 % of 4,100 opens in 3 s: workload cart-api, 312 instances, 13 connections each",
        "<td role=\"cell\" class=\"n\" data-label=\"share\">92 %</td>",
        "<bdi>amplification</bdi>",
        "role=\"img\" aria-label=\"Opened and closed, connections per second: opened at most",
        "<polyline class=\"one\"",
        "aria-label=\"Commands, commands per second: received at most 740",
        "data-label=\"commands /s before\">7</td>",
        "data-label=\"commands /s\">700</td>",
        ">The course as a table</summary>",
        "It is being recorded until <time",
        "href=\"/api/v1/incidents/1-1\"",
        " data-live>",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    for link in links(body(&page)).iter().filter(|link| link.starts_with('/')) {
        assert_eq!(status(&server.get(link)), 200, "{link}");
    }
}

#[test]
fn an_incident_that_is_not_there_or_damaged_is_a_page_that_says_so() {
    let server = Running::start(report());
    let page = browse(&server, "/incidents/2-2");
    assert_eq!(status(&page), 404);
    assert!(page.contains("Nothing is recorded of 2-2 here"), "{page}");
    assert_eq!(status(&browse(&server, "/incidents/..%2f..%2fetc%2fpasswd")), 404);

    let file = server.source.dir.path().join("incidents/1-1.incident");
    let mut bytes = std::fs::read(&file).expect("recorded");
    bytes[40] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let page = browse(&server, "/incidents/1-1");
    assert_eq!(status(&page), 500);
    for text in [
        "<h1>Incident</h1>",
        "cannot be read",
        "damaged at byte",
        "href=\"/\"",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(status(&browse(&server, "/incidents/1-1")), 500);
}
