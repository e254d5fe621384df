/// Whether a bug is to be there: the proof `chaos` has to notice it. `HEADWATER_PLANTED` names the one.
#[expect(
    clippy::disallowed_methods,
    reason = "compiled into the process of one proof only, which is configured as any other"
)]
pub fn is_planted(bug: &str) -> bool {
    std::env::var("HEADWATER_PLANTED").is_ok_and(|planted| planted == bug)
}
