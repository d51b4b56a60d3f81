//! Positions inside the received bytes, so that parsed views can be cached beside the buffer they point into.

/// A range of the buffer, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u32,
    pub end: u32,
}

/// A span that may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptSpan(Span);

impl Span {
    /// The span of `part`, which must be a slice of `base`.
    #[inline]
    pub fn of(base: &[u8], part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(base.as_ptr() as usize);
        debug_assert!(start <= base.len() && part.len() <= base.len() - start);
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The bytes; empty when the span does not lie inside `base`.
    #[inline]
    pub fn get(self, base: &[u8]) -> &[u8] {
        base.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }
}

impl OptSpan {
    const NONE: OptSpan = OptSpan(Span { start: u32::MAX, end: u32::MAX });

    #[inline]
    pub fn of(base: &[u8], part: Option<&[u8]>) -> OptSpan {
        part.map_or(OptSpan::NONE, |p| OptSpan(Span::of(base, p)))
    }

    #[inline]
    pub fn get(self, base: &[u8]) -> Option<&[u8]> {
        if self == OptSpan::NONE { None } else { Some(self.0.get(base)) }
    }
}
