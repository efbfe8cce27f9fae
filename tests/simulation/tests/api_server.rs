//! The simulated API server does as the scripts say. That the real one does too is tried in the lab, by the same scripts.

use simulation::{Fake, script};

#[test]
fn simulated_api_server_does_as_the_scripts_say() {
    let mut wrong = Vec::new();
    for script in script::parse(script::SCRIPTS).unwrap() {
        let mut fake = Fake::new().unwrap();
        for line in &script.lines {
            let seen = fake.perform(&line.step).unwrap();
            if seen != line.expected {
                wrong.push(format!("{}: {}\n  expected {}\n  and saw  {seen}", script.name, line.text, line.expected));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
