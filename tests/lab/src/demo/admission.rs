//! What the webhook says to a manifest with mistakes.

use super::stage::Stage;

/// Plays it.
pub async fn play(stage: &mut Stage) {
    stage.scene("A broken manifest is refused with every mistake in one message, and a mistyped key is pointed out");
    let said = stage.run("kubectl apply -f broken.yaml").await;
    let mistakes = ["nlb-target-type: \"IP\"", "scheme: \"public\""].iter().filter(|m| said.contains(*m)).count();
    let hints = usize::from(said.contains("Warning: ") && said.contains("did you mean"));
    let stored = stage.ask("kubectl get service broken").await.contains("NotFound");
    let stored = if stored { "not stored" } else { "stored" };
    let seen = format!("{mistakes} mistakes, {hints} hint, {stored}");
    let expected = "2 mistakes, 1 hint, not stored";
    stage.expect("broken manifest", expected, seen.clone(), seen == expected);
}
