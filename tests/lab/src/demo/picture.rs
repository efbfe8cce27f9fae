//! A rollout as a picture: pods with their targets, requests a second, failures. SVG, to be put into a page.

use std::ops::Range;

use load::Report;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::timeline::{PodLine, Span, TargetLine, Timeline};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("draw the rollout: {0}")]
pub struct Error(String);

const WIDTH: u32 = 1100;
const LEGEND: u32 = 34;
const ROW: u32 = 26;
const AXIS: u32 = 34;
const REQUESTS: u32 = 170;
const FAILURES: u32 = 90;
/// For the names of pods.
const LEFT: u32 = 190;
const RIGHT: u32 = 20;
const FONT: (&str, u32) = ("sans-serif", 12);

const INK: RGBColor = RGBColor(70, 70, 70);
const IN_SERVICE: RGBColor = RGBColor(25, 118, 210);
const FALLBACK: RGBColor = RGBColor(187, 222, 251);
const GATE: RGBColor = RGBColor(0, 0, 0);
const FAILED: RGBColor = RGBColor(211, 47, 47);
/// States of targets, as the AWS API tells them, and their colours.
const STATES: [(&str, RGBColor); 4] = [
    ("initial", RGBColor(176, 190, 197)),
    ("healthy", RGBColor(129, 199, 132)),
    ("draining", RGBColor(255, 183, 77)),
    ("unhealthy", RGBColor(229, 115, 115)),
];

/// One pod with what became of its target, which may have been registered more than once.
struct Row<'a> {
    pod: &'a PodLine,
    targets: Vec<&'a TargetLine>,
}

/// Draws a timeline whose times are those of the load's run.
pub fn draw(timeline: &Timeline, load: &Report) -> Result<String, Error> {
    let end = load.lasted.max(1.0);
    let rows: Vec<_> = timeline
        .pods
        .iter()
        .filter(|pod| pod.gone.is_none_or(|gone| gone > 0.0))
        .map(|pod| row(pod, timeline))
        .collect();
    let tall = ROW * u32::try_from(rows.len().max(1)).unwrap_or(1);
    let heights = [LEGEND, tall + AXIS, REQUESTS + AXIS, FAILURES + AXIS];
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, heights.iter().sum())).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let breaks: Vec<_> = heights
            .iter()
            .scan(0, |sum, height| {
                *sum += height;
                Some(*sum)
            })
            .take(3)
            .collect();
        let areas = root.split_by_breakpoints(Vec::<u32>::new(), breaks);
        let [top, pods, requests, failures] = &areas[..] else { return Err(Error("four areas".to_owned())) };
        legend(top)?;
        lines(pods, &rows, timeline, end)?;
        answers(requests, load, &rows, end)?;
        mistakes(failures, load, end)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn failed(error: impl std::fmt::Display) -> Error {
    Error(error.to_string())
}

/// The target of a pod is the one with its address that was there during its life.
fn row<'a>(pod: &'a PodLine, timeline: &'a Timeline) -> Row<'a> {
    let prefix = pod.address.as_ref().map(|address| format!("{address}:"));
    let targets =
        timeline.targets.iter().filter(|target| prefix.as_ref().is_some_and(|p| target.target.starts_with(p)));
    Row { pod, targets: targets.collect() }
}

fn legend(area: &Area) -> Result<(), Error> {
    let states = STATES.iter().map(|(name, colour)| (*colour, format!("target {name}")));
    let others = [(IN_SERVICE, "gets new connections"), (GATE, "gate opens"), (INK, "pod"), (FAILED, "failed")];
    let mut x = i32::try_from(LEFT).unwrap_or_default();
    for (colour, name) in states.chain(others.map(|(colour, name)| (colour, name.to_owned()))) {
        area.draw(&Rectangle::new([(x, 10), (x + 14, 22)], colour.filled())).map_err(failed)?;
        area.draw(&Text::new(name.clone(), (x + 19, 11), FONT.into_font().color(&INK))).map_err(failed)?;
        x += 32 + 6 * i32::try_from(name.len()).unwrap_or_default();
    }
    Ok(())
}

/// Where a span lies in the picture; nothing of one that lies outside.
fn clip(span: Range<f64>, end: f64) -> Option<(f64, f64)> {
    let (from, to) = (span.start.max(0.0), span.end.min(end));
    (from < to).then_some((from, to))
}

fn lines(area: &Area, rows: &[Row], timeline: &Timeline, end: f64) -> Result<(), Error> {
    // One unit a row, the first on top.
    let height = f64::from(u32::try_from(rows.len().max(1)).unwrap_or(1));
    let mut chart = ChartBuilder::on(area)
        .y_label_area_size(LEFT)
        .x_label_area_size(AXIS)
        .margin_right(RIGHT)
        .build_cartesian_2d(0.0..end, height..0.0)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(0)
        .x_label_formatter(&|x| format!("{x:.0} s"))
        .label_style(FONT.into_font().color(&INK))
        .axis_style(INK.mix(0.4))
        .draw()
        .map_err(failed)?;
    let beside = FONT.into_font().color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
    let mut top = 0.0;
    for (index, row) in rows.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(0.0, top + 0.5));
        let (left, above) = area.get_base_pixel();
        area.draw(&Text::new(row.pod.name.clone(), (x - left - 8, y - above), beside.clone())).map_err(failed)?;
        let bar = |from: f64, to: f64, colour: RGBColor, above: u32, below: u32| {
            let mut bar = Rectangle::new([(from, top), (to, top + 1.0)], colour.filled());
            bar.set_margin(above, below, 0, 0);
            bar
        };
        let life = row.pod.from..row.pod.gone.unwrap_or(end);
        let of_pod = |span: &Span| clip(span.from.max(life.start)..span.to.unwrap_or(end), end);
        let mut bars = Vec::new();
        for target in &row.targets {
            for span in &target.states {
                let colour = STATES.iter().find(|(state, _)| *state == span.what).map(|(_, colour)| *colour);
                bars.extend(of_pod(span).zip(colour).map(|((from, to), colour)| bar(from, to, colour, 3, 11)));
            }
            for span in &target.standings {
                let colour = if span.what == "in-service" { IN_SERVICE } else { FALLBACK };
                bars.extend(of_pod(span).map(|(from, to)| bar(from, to, colour, 15, 7)));
            }
        }
        bars.extend(clip(life, end).map(|(from, to)| bar(from, to, pod_colour(index), 19, 4)));
        chart.draw_series(bars).map_err(failed)?;
        // One that was open when its pod was seen first has opened some time before.
        if let Some(opened) = row.pod.gate_opened.filter(|t| *t > row.pod.from && (0.0..end).contains(t)) {
            chart.draw_series([TriangleMarker::new((opened, top + 0.5), 6, GATE.filled())]).map_err(failed)?;
        }
        top += 1.0;
    }
    for mark in timeline.marks.iter().filter(|mark| (0.0..end).contains(&mark.at)) {
        let line = PathElement::new(vec![(mark.at, 0.0), (mark.at, height)], INK.mix(0.6));
        chart.draw_series([line]).map_err(failed)?;
    }
    Ok(())
}

fn pod_colour(index: usize) -> RGBColor {
    let (r, g, b) = Palette99::pick(index).rgb();
    RGBColor(r, g, b)
}

/// Bars for each second, of `(colour, count)` from the bottom up.
fn seconds(area: &Area, title: &str, height: u64, end: f64, bars: &[Vec<(RGBColor, u64)>]) -> Result<(), Error> {
    let mut chart = ChartBuilder::on(area)
        .y_label_area_size(LEFT)
        .x_label_area_size(AXIS)
        .margin_right(RIGHT)
        .build_cartesian_2d(0.0..end, 0..height.max(1))
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(4)
        .y_desc(title)
        .x_label_formatter(&|x| format!("{x:.0} s"))
        .label_style(FONT.into_font().color(&INK))
        .axis_style(INK.mix(0.4))
        .draw()
        .map_err(failed)?;
    let mut from = 0.0;
    for second in bars {
        let (mut below, to) = (0, f64::min(from + 1.0, end));
        for (colour, count) in second {
            let bar = Rectangle::new([(from, below), (to, below + count)], colour.filled());
            chart.draw_series([bar]).map_err(failed)?;
            below += count;
        }
        from += 1.0;
    }
    Ok(())
}

fn answers(area: &Area, load: &Report, rows: &[Row], end: f64) -> Result<(), Error> {
    let bars: Vec<Vec<_>> = load
        .seconds
        .iter()
        .map(|second| {
            let of = |pod: &String| rows.iter().position(|row| row.pod.name == *pod).map_or(INK, pod_colour);
            second.answered.iter().map(|(pod, count)| (of(pod), *count)).collect()
        })
        .collect();
    let highest = bars.iter().map(|second| second.iter().map(|(_, count)| count).sum()).max().unwrap_or(0);
    seconds(area, "answers a second", highest + highest / 10, end, &bars)
}

fn mistakes(area: &Area, load: &Report, end: f64) -> Result<(), Error> {
    let bars: Vec<Vec<_>> = load
        .seconds
        .iter()
        .map(|second| match second.failed.values().sum() {
            0 => Vec::new(),
            count => vec![(FAILED, count)],
        })
        .collect();
    let highest = bars.iter().flatten().map(|(_, count)| *count).max().unwrap_or(0);
    seconds(area, "failures a second", highest.max(5), end, &bars)
}

#[cfg(test)]
mod tests {
    use load::Second;

    use super::*;

    fn rollout(failed: u64) -> (Timeline, Report) {
        let span = |from, to, what: &str| Span { from, to, what: what.to_owned() };
        let pod = PodLine {
            name: "echo-1".to_owned(),
            address: Some("192.168.1.7".to_owned()),
            from: -3.0,
            containers_ready: Some(-2.0),
            ready: Some(1.0),
            gate_opened: Some(1.0),
            gated: true,
            leaving: Some(2.0),
            gone: None,
        };
        let target = TargetLine {
            target: "192.168.1.7:8080".to_owned(),
            states: vec![
                span(-1.0, Some(1.0), "initial"),
                span(1.0, Some(2.0), "healthy"),
                span(2.0, None, "draining"),
            ],
            standings: vec![span(1.0, Some(2.5), "in-service")],
        };
        let second = |failed: u64| Second {
            answered: [("echo-1".to_owned(), 100)].into(),
            failed: if failed == 0 { [].into() } else { [(load::Kind::Reset, failed)].into() },
        };
        let load = Report {
            version: 1,
            target: "http://x:80".to_owned(),
            rate: 100,
            began: 0.0,
            lasted: 3.0,
            requests: 300 + failed,
            answered: 300,
            failed,
            kinds: [].into(),
            pods: [("echo-1".to_owned(), 300)].into(),
            first_byte: load::Spread::default(),
            seconds: vec![second(0), second(failed), second(0)],
            failures: Vec::new(),
        };
        (Timeline { pods: vec![pod], targets: vec![target], marks: Vec::new() }, load)
    }

    fn fills(picture: &str, colour: RGBColor) -> usize {
        let fill = format!("fill=\"#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2);
        picture.matches(&fill).count()
    }

    #[test]
    fn picture_has_each_pod_with_its_target_and_its_gate() {
        let (timeline, load) = rollout(0);
        let picture = draw(&timeline, &load).expect("a picture");
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>") && picture.contains("echo-1"));
        for (state, colour) in STATES {
            // One is in the legend.
            let expected = if state == "unhealthy" { 1 } else { 2 };
            assert_eq!(fills(&picture, colour), expected, "{state}");
        }
        assert_eq!(fills(&picture, IN_SERVICE), 2);
        assert_eq!(picture.matches("<polygon").count(), 1, "the gate");
    }

    #[test]
    fn failures_are_drawn_where_there_are_any() {
        let (timeline, load) = rollout(0);
        assert_eq!(fills(&draw(&timeline, &load).expect("a picture"), FAILED), 1, "the legend alone");
        let (timeline, load) = rollout(7);
        assert_eq!(fills(&draw(&timeline, &load).expect("a picture"), FAILED), 2);
    }

    #[test]
    fn rollout_in_which_nothing_was_seen_has_a_picture_too() {
        let timeline = Timeline { pods: Vec::new(), targets: Vec::new(), marks: Vec::new() };
        let (_, load) = rollout(0);
        draw(&timeline, &Report { seconds: Vec::new(), lasted: 0.0, ..load }).expect("an empty picture");
    }
}
