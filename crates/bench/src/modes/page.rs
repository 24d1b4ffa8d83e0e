//! Comparisons as one page for a browser: nothing of it is loaded from elsewhere, so that it can be sent and kept.
//!
//! First the targets, then a card for each kind of work with its charts, all figures folded away behind each.

use super::chart::{Bar, Group, Span, bars, brief, spans};
use super::comparison::{at_once, name};
use super::{Comparison, Line, MODES, Place};
use crate::plain;
use crate::report::{Row, short};
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// The page. `about` says in a few words of which release and machine it tells.
#[must_use]
pub fn page(comparisons: &[Comparison], about: &[String]) -> String {
    let mut out = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    put!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>sqlrep: statement mode and page mode</title><style>{STYLE}</style></head><body>\
         <header><h1>Statement mode and page mode, side by side</h1><p class=\"chips\">"
    );
    let conditions = comparisons.first().map(|one| one.conditions.clone());
    for chip in about.iter().chain(&conditions) {
        put!(out, "<span>{}</span>", escaped(chip));
    }
    out.push_str("</p>");
    out.push_str(LEGEND);
    out.push_str("</header><main>");
    targets(&mut out, comparisons);
    for place in Place::ALL {
        let here: Vec<&Comparison> = comparisons
            .iter()
            .filter(|one| one.place == place)
            .collect();
        if here.is_empty() {
            continue;
        }
        put!(out, "<h2>{}</h2>", capital(place.title()));
        for one in here {
            card(&mut out, one);
        }
    }
    out + FOOT
}

const LEGEND: &str = "<p class=\"legend\"><span><i class=\"s\"></i>statement mode: the log carries SQL, \
     every node executes it</span><span><i class=\"p\"></i>page mode: the leader executes, the log carries changed \
     pages</span><span><i class=\"b\"></i>plain SQLite, one client</span></p>";

const FOOT: &str = "</main><footer>Bars are medians over the rounds, the thin lines on them the range. CPU and memory over \
     HTTP: the leader below, its followers in lighter shades on top; embedded: the one process, with the load. Times: a mark \
     at the median, a bar up to p99, a line up to the longest, on a logarithmic scale. Each figure is per request; a \
     request of 10 or 1,000 INSERTs is one. Made by <code>sqlrep bench modes --html</code>.</footer></body></html>\n";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// Every figure that has a target, with the verdict.
fn targets(out: &mut String, comparisons: &[Comparison]) {
    let judged = |one: &Comparison| -> Vec<Row> {
        let rows = one.rows.iter();
        rows.filter(|row| row.target.is_some()).cloned().collect()
    };
    if comparisons.iter().all(|one| judged(one).is_empty()) {
        return;
    }
    out.push_str(
        "<section><h2>Targets</h2><div class=\"scroll\"><table><tr><th>work</th><th>place</th><th>figure</th>\
         <th class=\"n\">median</th><th class=\"n\">range</th><th class=\"n\">target</th><th></th></tr>",
    );
    for one in comparisons {
        for row in judged(one) {
            let (class, verdict) = match row.is_met() {
                Some(true) => ("met", "met"),
                Some(false) => ("missed", "missed"),
                None => ("", "not judged"),
            };
            let target = row.target.map(|target| escaped(&target.to_string()));
            put!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{} {}</td><td class=\"n\">{} to {}</td>\
                 <td class=\"n\">{}</td><td><b class=\"{class}\">{verdict}</b></td></tr>",
                one.work.title(),
                one.place.name(),
                row.name,
                short(row.median),
                row.unit,
                short(row.range.0),
                short(row.range.1),
                target.unwrap_or_default()
            );
        }
    }
    out.push_str("</table></div></section>");
}

fn card(out: &mut String, one: &Comparison) {
    put!(out, "<section><h3>{}</h3>", capital(one.work.title()));
    put!(out, "<p class=\"note\">{}</p>", note(one));
    if !one.lines.is_empty() {
        out.push_str("<div class=\"charts\">");
        charts(out, one);
        out.push_str("</div>");
        figures(out, one);
    }
    out.push_str("</section>");
}

/// Rounds and baselines in words.
fn note(one: &Comparison) -> String {
    let mut note = match (one.rounds, one.left_out.len()) {
        (0, _) => "Every round was unsteady; nothing can be said.".to_owned(),
        (rounds, 0) => format!("{rounds} rounds."),
        (rounds, out) => format!("{rounds} rounds, {out} left out as unsteady."),
    };
    for line in one.lines.iter().take_while(|line| !is_mode(line)) {
        if let Some(rate) = line.figure(name::RATE) {
            put!(
                note,
                " {}: {}/s.",
                capital(&line.subject),
                brief(rate.median)
            );
        }
    }
    note
}

fn is_mode(line: &Line) -> bool {
    MODES
        .iter()
        .any(|mode| line.subject == format!("{mode} mode"))
}

/// For each number of clients, both modes' lines.
fn groups(one: &Comparison) -> Vec<(String, [Option<&Line>; 2])> {
    let mut groups: Vec<(usize, [Option<&Line>; 2])> = Vec::new();
    for line in one.lines.iter().filter(|line| is_mode(line)) {
        if groups
            .last()
            .is_none_or(|(clients, _)| *clients != line.clients)
        {
            groups.push((line.clients, [None, None]));
        }
        let side = usize::from(line.subject == format!("{} mode", MODES[1]));
        if let Some((_, sides)) = groups.last_mut() {
            sides[side] = Some(line);
        }
    }
    let named = |(clients, sides): (usize, _)| (at_once(clients), sides);
    groups.into_iter().map(named).collect()
}

fn charts(out: &mut String, one: &Comparison) {
    let plain = one.lines.iter().find(|line| line.subject == plain::NAME);
    let of_plain = |figure: &str| {
        let row = plain?.figure(figure)?;
        Some((plain::NAME, row.median))
    };
    let by_node = match one.place {
        Place::Http => &name::CPU_OF[..],
        Place::Embedded => &[name::CPU][..],
    };
    chart(
        out,
        "Requests per second",
        &bars_of(one, &[name::RATE], of_plain(name::RATE)),
    );
    chart(out, "Time of a request, ms", &times(one));
    let cpu = "CPU per request, µs";
    chart(out, cpu, &bars_of(one, by_node, of_plain(name::CPU)));
    chart(
        out,
        "Bytes in the log per request",
        &bars_of(one, &[name::LOG], None),
    );
    chart(
        out,
        "Bytes between nodes per request",
        &bars_of(one, &[name::WIRE], None),
    );
    chart(
        out,
        "Requests per sync of the leader",
        &bars_of(one, &[name::GATHERED], None),
    );
    chart(
        out,
        "Syncs per request, all nodes",
        &bars_of(one, &[name::SYNCS_ALL], None),
    );
    let memory = bars_of(one, &name::MEMORY, None);
    chart(out, "Memory (RSS), MB", &memory);
}

fn chart(out: &mut String, title: &str, svg: &str) {
    put!(
        out,
        "<figure><figcaption>{title}</figcaption>{svg}</figure>"
    );
}

/// Bars of these figures, one on top of the other; a range where there is only one.
fn bars_of(one: &Comparison, figures: &[&str], baseline: Option<(&str, f64)>) -> String {
    let bar = |line: Option<&Line>| {
        let line = line?;
        let rows: Vec<&Row> = figures
            .iter()
            .filter_map(|name| line.figure(name))
            .collect();
        let alone = (figures.len() == 1).then(|| rows.first().map(|row| row.range));
        let told: Vec<String> = rows
            .iter()
            .map(|row| format!("{}: {} {}", row.name, short(row.median), row.unit))
            .collect();
        (!rows.is_empty()).then(|| Bar {
            parts: rows.iter().map(|row| row.median).collect(),
            range: alone.flatten(),
            told: format!("{}, {}", line.subject, told.join(", ")),
        })
    };
    let group = |(label, sides): (String, [Option<&Line>; 2])| Group {
        label,
        bars: sides.map(bar),
    };
    let groups: Vec<Group> = groups(one).into_iter().map(group).collect();
    bars(figures.first().unwrap_or(&""), &groups, baseline)
}

fn times(one: &Comparison) -> String {
    let span = |line: Option<&Line>| {
        let ms = |name| Some(line?.figure(name)?.median / 1000.0);
        Some(Span {
            p50: ms(name::P50)?,
            p99: ms(name::P99)?,
            longest: ms(name::MAX)?,
        })
    };
    let groups: Vec<(String, [Option<Span>; 2])> = groups(one)
        .into_iter()
        .map(|(label, sides)| (label, sides.map(span)))
        .collect();
    spans("Time of a request", &groups)
}

/// Every figure of every line, and the ratios.
fn figures(out: &mut String, one: &Comparison) {
    out.push_str("<details><summary>All figures</summary><div class=\"scroll\"><table><tr><th></th><th class=\"n\">clients</th>");
    let mut names: Vec<(&str, &str)> = Vec::new();
    for row in one.lines.iter().flat_map(|line| &line.figures) {
        if !names.contains(&(&row.name, row.unit)) {
            names.push((&row.name, row.unit));
        }
    }
    for (name, unit) in &names {
        put!(out, "<th class=\"n\">{name} {unit}</th>");
    }
    out.push_str("<th>an acknowledged request survives</th></tr>");
    for line in &one.lines {
        put!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td>",
            line.subject,
            line.clients
        );
        for (name, _) in &names {
            let value = line.figure(name).map(|row| short(row.median));
            put!(out, "<td class=\"n\">{}</td>", value.unwrap_or_default());
        }
        put!(out, "<td>{}</td></tr>", line.durability());
    }
    out.push_str("</table><table><tr><th>in the same round</th><th class=\"n\">median</th><th class=\"n\">range</th></tr>");
    for row in &one.rows {
        put!(
            out,
            "<tr><td>{}</td><td class=\"n\">{} {}</td><td class=\"n\">{} to {}</td></tr>",
            row.name,
            short(row.median),
            row.unit,
            short(row.range.0),
            short(row.range.1)
        );
    }
    out.push_str("</table></div></details>");
}
