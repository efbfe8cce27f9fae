//! The report as a person reads it.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    paint::{Color, Paint},
    view::{GroupStatus, LoadBalancerStatus, Report, ServiceStatus, TargetStatus, UNREGISTERED},
};

/// The text, as of `now`.
pub fn text(report: &Report, now: Timestamp, paint: Paint) -> String {
    let mut out = String::new();
    for (n, service) in report.services.iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        of_service(&mut out, service, now, paint);
    }
    if report.services.is_empty() {
        out.push_str("There is no Service with a load balancer of ours, and no binding.\n");
    }
    out
}

fn of_service(out: &mut String, service: &ServiceStatus, now: Timestamp, paint: Paint) {
    let title = paint.bold(&format!("{}/{}", service.namespace, service.name));
    let hostname = service.hostname.as_deref().map(|name| format!("  {name}")).unwrap_or_default();
    let _ = writeln!(out, "{title}{hostname}");
    if let Some(balancer) = &service.load_balancer {
        of_balancer(out, balancer, paint);
    }
    if let Some(progress) = &service.progress {
        let _ = writeln!(out, "  {} {progress}", paint.color(Color::Yellow, "~"));
    }
    for problem in &service.problems {
        let _ = writeln!(out, "  {} {problem}", paint.color(Color::Red, "!"));
    }
    for group in &service.target_groups {
        of_group(out, group, now, paint);
    }
}

fn of_balancer(out: &mut String, balancer: &LoadBalancerStatus, paint: Paint) {
    let color = match balancer.state.as_str() {
        "active" => Color::Green,
        "provisioning" => Color::Yellow,
        _ => Color::Red,
    };
    let reason = balancer.state_reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let state = paint.color(color, &balancer.state);
    let _ = writeln!(out, "  load balancer {} ({}) {state}{reason}", balancer.name, balancer.scheme);
    for listener in &balancer.listeners {
        let groups = listener.target_groups.join(", ");
        let _ = writeln!(out, "  listener {} {} -> {groups}", listener.port, listener.protocol);
    }
}

fn of_group(out: &mut String, group: &GroupStatus, now: Timestamp, paint: Paint) {
    let healthy = group.targets.iter().filter(|target| target.state == "healthy").count();
    let there = group.targets.iter().filter(|target| target.state != UNREGISTERED).count();
    let counts = if group.arn.is_empty() {
        "no target group yet".to_owned()
    } else if group.targets.is_empty() {
        "no targets".to_owned()
    } else {
        format!("{healthy} of {there} healthy")
    };
    let color = if there > 0 && healthy == there { Color::Green } else { Color::Yellow };
    let counts = paint.color(color, &counts);
    let _ = writeln!(out, "  target group {} (port {}) {counts}", group.binding, group.service_port);
    if let Some(ready) = group.ready.as_ref().filter(|ready| ready.status != "True") {
        let _ = writeln!(out, "    {} {}: {}", paint.color(Color::Yellow, "!"), ready.reason, ready.message);
    }
    if group.targets.is_empty() {
        return;
    }
    let mut rows = vec![["TARGET", "POD OR NODE", "STATE", "REASON", "GATE", "SINCE"].map(ToOwned::to_owned)];
    rows.extend(group.targets.iter().map(|target| row(target, now)));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (n, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Escapes have no width, so a cell is padded before it is painted.
            let padded = format!("{cell:width$}");
            line.push_str(&if n == 0 {
                paint.color(Color::Dim, &padded)
            } else {
                painted(paint, column, cell, &padded)
            });
            line.push_str("  ");
        }
        let _ = writeln!(out, "    {}", line.trim_end());
    }
}

fn row(target: &TargetStatus, now: Timestamp) -> [String; 6] {
    let address = match target.port {
        Some(port) if target.id.contains(':') => format!("[{}]:{port}", target.id),
        Some(port) => format!("{}:{port}", target.id),
        None => target.id.clone(),
    };
    let since = target.since.map(|since| age(now, since)).unwrap_or_default();
    let or_dash = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
    [
        address,
        or_dash(target.object.as_ref()),
        target.state.clone(),
        or_dash(target.reason.as_ref()),
        or_dash(target.gate.as_ref()),
        if since.is_empty() { "-".to_owned() } else { since },
    ]
}

fn painted(paint: Paint, column: usize, cell: &str, padded: &str) -> String {
    let color = match (column, cell) {
        (2, "healthy") | (4, "True") => Color::Green,
        (2, "initial" | "draining" | UNREGISTERED) | (4, "False" | "Unknown") => Color::Yellow,
        (2, "unused") | (_, "-") => Color::Dim,
        (2, _) => Color::Red,
        _ => return padded.to_owned(),
    };
    paint.color(color, padded)
}

/// How long ago, in the largest unit that fits: `45s`, `12m`, `3h`, `8d`.
fn age(now: Timestamp, since: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_the_largest_unit_that_fits() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (ago, says) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d"), (-5, "0s")]
        {
            assert_eq!(age(now, Timestamp::from_second(1_000_000 - ago).unwrap()), says);
        }
    }
}
