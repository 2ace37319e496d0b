//! Suggestions for misspelled words.

/// The known word that `word` is probably a misspelling of.
pub fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let lower = word.to_lowercase().replace('_', "-");
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
