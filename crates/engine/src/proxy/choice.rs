//! Which final reply wins among the branches of a step (RFC 3261 §16.7 step 6, with the order of the routing language).

/// The rank of a final reply other than 2xx; the lowest wins, and the first branch among equals. `cancelled`: the caller
/// cancelled the request.
#[must_use]
pub fn rank(code: u16, cancelled: bool) -> u16 {
    match code {
        487 if cancelled => 0,
        600.. => code - 300,
        300..=399 => code + 100,
        401 => 500,
        407 => 501,
        415 => 502,
        420 => 503,
        484 => 504,
        408 => 800,
        503 => 801,
        _ => code.saturating_add(200),
    }
}

/// The index of the winner among final codes.
pub fn winner(codes: impl IntoIterator<Item = (usize, u16)>, cancelled: bool) -> Option<(usize, u16)> {
    codes.into_iter().min_by_key(|(index, code)| (rank(*code, cancelled), *index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(codes: &[u16], cancelled: bool) -> u16 {
        winner(codes.iter().copied().enumerate(), cancelled).unwrap().1
    }

    #[test]
    fn order_of_classes_and_of_special_codes() {
        let order = [603, 302, 401, 407, 415, 420, 484, 404, 486, 487, 500, 504, 408, 503];
        for pair in order.windows(2) {
            assert_eq!(best(&[pair[1], pair[0]], false), pair[0], "{pair:?}");
        }
    }

    #[test]
    fn request_terminated_wins_only_for_a_cancelled_request() {
        assert_eq!(best(&[603, 487], true), 487);
        assert_eq!(best(&[404, 487], false), 404);
    }

    #[test]
    fn first_branch_wins_among_equals() {
        assert_eq!(winner([(2, 486), (5, 486)], false), Some((2, 486)));
        assert_eq!(winner([], false), None);
    }
}
