//! Charts as inline SVG: bars side by side for both modes, and times from median to longest on a logarithmic scale.
//!
//! Colours come from the page's style sheet, by class: `s` statement mode, `p` page mode, `b` a baseline.

use std::fmt::Write;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 214.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 186.0;
const RIGHT: f64 = 352.0;

/// A bar's width at most, so that few of them don't become walls.
const BAR_MAX: f64 = 40.0;

/// One bar: parts on top of each other, and the range of their sum.
pub(super) struct Bar {
    pub(super) parts: Vec<f64>,
    pub(super) range: Option<(f64, f64)>,
    /// What is told under the pointer.
    pub(super) told: String,
}

impl Bar {
    fn sum(&self) -> f64 {
        self.parts.iter().sum()
    }

    fn top(&self) -> f64 {
        self.range.map_or(self.sum(), |(_, most)| most)
    }
}

/// Both modes at one number of clients.
pub(super) struct Group {
    pub(super) label: String,
    /// Statement mode's and page mode's.
    pub(super) bars: [Option<Bar>; 2],
}

/// A value as short as it can be read.
pub(super) fn brief(value: f64) -> String {
    match value.abs() {
        size if size >= 1e7 => format!("{:.0}M", value / 1e6),
        size if size >= 1e6 => format!("{:.1}M", value / 1e6),
        size if size >= 1e5 => format!("{:.0}k", value / 1e3),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The same of a round value, at an axis.
fn round(value: f64) -> String {
    let brief = brief(value);
    match brief.split_once('.') {
        Some((whole, rest)) if value >= 1.0 => {
            let unit = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
            let decimals = rest[..rest.len() - unit.len()].trim_end_matches('0');
            let point = if decimals.is_empty() { "" } else { "." };
            format!("{whole}{point}{decimals}{unit}")
        }
        _ => brief,
    }
}

/// A step of 1, 2 or 5 times a power of ten, of which about four make up `top`.
fn step(top: f64) -> f64 {
    let raw = top / 4.0;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= raw * 0.999);
    factor.unwrap_or(10.0) * power
}

/// Room for so many groups: where each begins and how wide it is.
fn places(groups: usize) -> impl Iterator<Item = (f64, f64)> {
    let count = f64::from(u32::try_from(groups.max(1)).unwrap_or(u32::MAX));
    let width = (RIGHT - LEFT) / count;
    (0..groups).scan(LEFT, move |at, _| {
        let begins = *at;
        *at += width;
        Some((begins, width))
    })
}

fn begin(out: &mut String, label: &str) {
    put!(
        out,
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">"#
    );
}

fn rule(out: &mut String, y: f64, label: &str) {
    put!(
        out,
        r#"<line class="g" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1}" y2="{y:.1}"/><text class="y" x="{:.1}" y="{:.1}">{label}</text>"#,
        LEFT - 5.0,
        y + 3.5
    );
}

fn label(out: &mut String, x: f64, label: &str) {
    put!(
        out,
        r#"<text class="x" x="{x:.1}" y="{:.1}">{label}</text>"#,
        BOTTOM + 16.0
    );
}

/// Bars from zero on. A baseline is a dashed line where it fits, and told in words where it would squeeze the bars.
pub(super) fn bars(title: &str, groups: &[Group], baseline: Option<(&str, f64)>) -> String {
    let tops = groups.iter().flat_map(|group| &group.bars).flatten();
    let most = tops.map(Bar::top).fold(0.0, f64::max);
    let line = baseline.filter(|(_, value)| *value <= 1.5 * most);
    let most = line.map_or(most, |(_, value)| value.max(most));
    let mut out = String::new();
    begin(&mut out, title);
    if most > 0.0 {
        let step = step(most);
        let top = (most / step).ceil() * step;
        let y = |value: f64| BOTTOM - value / top * (BOTTOM - TOP);
        let mut at = 0.0;
        while at <= top * 1.001 {
            rule(&mut out, y(at), &round(at));
            at += step;
        }
        for (group, (begins, width)) in groups.iter().zip(places(groups.len())) {
            grouped(&mut out, group, begins, width, &y);
        }
        if let Some((name, value)) = line {
            put!(
                out,
                r#"<line class="b" x1="{LEFT}" x2="{RIGHT}" y1="{0:.1}" y2="{0:.1}"><title>{name}: {1}</title></line>"#,
                y(value),
                brief(value)
            );
        }
    }
    out + "</svg>"
}

fn grouped(out: &mut String, group: &Group, begins: f64, width: f64, y: &dyn Fn(f64) -> f64) {
    let bar_width = (width * 0.38).min(BAR_MAX);
    let middle = begins + width / 2.0;
    label(out, middle, &group.label);
    for (bar, (class, x)) in group
        .bars
        .iter()
        .zip([("s", middle - bar_width - 1.0), ("p", middle + 1.0)])
    {
        if let Some(bar) = bar {
            one(out, bar, class, (x, bar_width), y);
        }
    }
}

fn one(out: &mut String, bar: &Bar, class: &str, (x, width): (f64, f64), y: &dyn Fn(f64) -> f64) {
    put!(out, "<g class=\"{class}\"><title>{}</title>", bar.told);
    let mut below = 0.0;
    for (at, part) in bar.parts.iter().enumerate() {
        let (from, to) = (y(below), y(below + part));
        put!(
            out,
            r#"<rect class="part{at}" x="{x:.1}" y="{to:.1}" width="{width:.1}" height="{:.1}"/>"#,
            (from - to).max(0.0)
        );
        below += part;
    }
    let middle = x + width / 2.0;
    let mut highest = y(below);
    if let Some((least, most)) = bar.range {
        put!(
            out,
            r#"<line class="r" x1="{middle:.1}" x2="{middle:.1}" y1="{:.1}" y2="{:.1}"/>"#,
            y(least),
            y(most)
        );
        highest = highest.min(y(most));
    }
    put!(
        out,
        r#"<text class="v" x="{middle:.1}" y="{:.1}">{}</text></g>"#,
        highest - 4.0,
        brief(bar.sum())
    );
}

/// Median, p99 and longest time of one mode at one number of clients, in milliseconds.
pub(super) struct Span {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) longest: f64,
}

/// Times: a bar from median to p99, a thin line to the longest.
pub(super) fn spans(title: &str, groups: &[(String, [Option<Span>; 2])]) -> String {
    let all = || groups.iter().flat_map(|(_, spans)| spans).flatten();
    let least = all().map(|span| span.p50).fold(f64::INFINITY, f64::min);
    let most = all().map(|span| span.longest).fold(0.0, f64::max);
    let mut out = String::new();
    begin(&mut out, title);
    if least > 0.0 && least.is_finite() {
        let (low, high) = (least.log10().floor(), most.log10().ceil());
        let high = high.max(low + 1.0);
        let y = |value: f64| BOTTOM - (value.log10() - low) / (high - low) * (BOTTOM - TOP);
        let mut power = low;
        while power <= high {
            rule(&mut out, y(10_f64.powf(power)), &power_of_ten(power));
            power += 1.0;
        }
        for ((name, spans), (begins, width)) in groups.iter().zip(places(groups.len())) {
            let middle = begins + width / 2.0;
            label(&mut out, middle, name);
            let bar = (width * 0.38).min(BAR_MAX);
            let sides = [("s", middle - bar - 1.0), ("p", middle + 1.0)];
            for (span, (class, x)) in spans.iter().zip(sides) {
                if let Some(span) = span {
                    spanned(&mut out, span, class, (x, bar), &y);
                }
            }
        }
    }
    out + "</svg>"
}

fn power_of_ten(power: f64) -> String {
    let value = 10_f64.powf(power);
    if power < 0.0 {
        value.to_string()
    } else {
        round(value)
    }
}

fn spanned(
    out: &mut String,
    span: &Span,
    class: &str,
    (x, width): (f64, f64),
    y: &dyn Fn(f64) -> f64,
) {
    let middle = x + width / 2.0;
    let (p50, p99, longest) = (y(span.p50), y(span.p99), y(span.longest));
    // Below its mark, but not on the axis.
    let text = if p50 + 12.0 < BOTTOM {
        p50 + 11.0
    } else {
        p50 - 4.0
    };
    put!(
        out,
        r#"<g class="{class}"><title>p50 {} ms, p99 {} ms, longest {} ms</title><line class="r" x1="{middle:.1}" x2="{middle:.1}" y1="{p99:.1}" y2="{longest:.1}"/><rect class="part1" x="{x:.1}" y="{p99:.1}" width="{width:.1}" height="{:.1}"/><rect class="part0" x="{x:.1}" y="{:.1}" width="{width:.1}" height="3"/><text class="v" x="{middle:.1}" y="{:.1}">{}</text></g>"#,
        brief(span.p50),
        brief(span.p99),
        brief(span.longest),
        (p50 - p99).max(0.0),
        p50 - 1.5,
        text,
        brief(span.p50)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_four_or_so_make_a_scale() {
        for (top, expected) in [(100.0, 50.0), (8.0, 2.0), (0.9, 0.5), (12_345.0, 5000.0)] {
            let found = step(top);
            assert!((found - expected).abs() < 1e-9, "{top}: {found}");
        }
        assert_eq!(brief(12_345.0), "12.3k");
        assert_eq!(brief(0.0123), "0.012");
        let axis = [30_000.0, 15.0, 2.5, 1.0, 150_000.0, 1_500_000.0, 0.5];
        let said = ["30k", "15", "2.5", "1", "150k", "1.5M", "0.50"];
        assert_eq!(axis.map(round), said);
    }

    #[test]
    fn bars_grow_with_their_values_and_stay_inside() {
        let bar = |value| {
            Some(Bar {
                parts: vec![value],
                range: Some((value / 2.0, value * 2.0)),
                told: "x".to_owned(),
            })
        };
        let group = Group {
            label: "64".to_owned(),
            bars: [bar(10.0), bar(20.0)],
        };
        let svg = bars("rate", &[group], Some(("plain", 15.0)));
        let heights: Vec<f64> = svg
            .split("height=\"")
            .skip(1)
            .map(|part| part.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 2, "{svg}");
        assert!((heights[1] / heights[0] - 2.0).abs() < 0.02, "{heights:?}");
        assert!(heights[1] <= BOTTOM - TOP);
        assert!(svg.contains("class=\"b\""), "the baseline fits: {svg}");
        let empty = bars("rate", &[], None);
        assert!(!empty.contains("rect"), "{empty}");
    }
}
