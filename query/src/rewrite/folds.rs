//! Accumulators over one column of numbers, for one group and for many. Owns which rows count; must
//! never know what a fold is for.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// What becomes of values, one after the other.
pub(super) trait Fold: Send + Sync + 'static {
    /// Of the column.
    type Input: ArrowPrimitiveType;
    /// Of what is handed on between partitions.
    type State: ArrowPrimitiveType;

    /// That of a group without values.
    fn start(&self) -> <Self::State as ArrowPrimitiveType>::Native;

    fn add(
        state: &mut <Self::State as ArrowPrimitiveType>::Native,
        value: <Self::Input as ArrowPrimitiveType>::Native,
    );

    fn merge(
        state: &mut <Self::State as ArrowPrimitiveType>::Native,
        other: <Self::State as ArrowPrimitiveType>::Native,
    ) -> Result<()>;

    /// States as they are handed on.
    fn states(&self, states: PrimitiveArray<Self::State>) -> ArrayRef;

    /// The result, or why there is none.
    fn finish(&self, states: PrimitiveArray<Self::State>) -> Result<ArrayRef>;
}

type StateOf<F> = <<F as Fold>::State as ArrowPrimitiveType>::Native;

/// One state for each group.
#[derive(Debug)]
pub(super) struct Groups<F: Fold> {
    fold: F,
    states: Vec<StateOf<F>>,
    /// Whether a group has had a value.
    seen: Vec<bool>,
}

impl<F: Fold> Groups<F> {
    pub(super) fn new(fold: F) -> Self {
        Self {
            fold,
            states: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn grow(&mut self, groups: usize) {
        self.states.resize(groups, self.fold.start());
        self.seen.resize(groups, false);
    }

    fn take(&mut self, emit_to: EmitTo) -> PrimitiveArray<F::State> {
        let states = emit_to.take_needed(&mut self.states);
        let seen = emit_to.take_needed(&mut self.seen);
        PrimitiveArray::new(states.into(), Some(seen.into()))
    }
}

impl<F: Fold> GroupsAccumulator for Groups<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let values = only(values)?.as_primitive::<F::Input>();
        let (states, seen) = (&mut self.states, &mut self.seen);
        let mut add = |group: usize, value| {
            if let (Some(state), Some(seen)) = (states.get_mut(group), seen.get_mut(group)) {
                F::add(state, value);
                *seen = true;
            }
        };
        match (values.null_count(), filter) {
            (0, None) => {
                for (group, value) in groups.iter().zip(values.values()) {
                    add(*group, *value);
                }
            }
            _ => {
                for (row, (group, value)) in groups.iter().zip(values).enumerate() {
                    let kept = filter.is_none_or(|kept| kept.is_valid(row) && kept.value(row));
                    if let (true, Some(value)) = (kept, value) {
                        add(*group, value);
                    }
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let states = self.take(emit_to);
        self.fold.finish(states)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = self.take(emit_to);
        Ok(vec![self.fold.states(states)])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let others = only(values)?.as_primitive::<F::State>();
        for (group, other) in groups.iter().zip(others) {
            if let (Some(other), Some(state), Some(seen)) = (
                other,
                self.states.get_mut(*group),
                self.seen.get_mut(*group),
            ) {
                F::merge(state, other)?;
                *seen = true;
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = only(values)?.as_primitive::<F::Input>();
        let states: PrimitiveArray<F::State> = values
            .iter()
            .enumerate()
            .map(|(row, value)| {
                let kept = filter.is_none_or(|kept| kept.is_valid(row) && kept.value(row));
                value.filter(|_| kept).map(|value| {
                    let mut state = self.fold.start();
                    F::add(&mut state, value);
                    state
                })
            })
            .collect();
        Ok(vec![self.fold.states(states)])
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<StateOf<F>>() + self.seen.capacity()
    }
}

/// One state, of which the oldest values may be taken back where `remove` says how.
pub(super) struct One<F: Fold> {
    fold: F,
    state: StateOf<F>,
    count: usize,
    remove: Option<Removal<F>>,
}

type Removal<F> = fn(&mut StateOf<F>, <<F as Fold>::Input as ArrowPrimitiveType>::Native);

impl<F: Fold> fmt::Debug for One<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("One")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl<F: Fold> One<F> {
    pub(super) fn new(fold: F, remove: Option<Removal<F>>) -> Self {
        Self {
            state: fold.start(),
            fold,
            count: 0,
            remove,
        }
    }

    fn array(&self) -> PrimitiveArray<F::State> {
        let state = (self.count > 0).then_some(self.state);
        std::iter::once(state).collect()
    }
}

impl<F: Fold> Accumulator for One<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = only(values)?.as_primitive::<F::Input>();
        self.count += values.len() - values.null_count();
        if values.null_count() == 0 {
            for value in values.values() {
                F::add(&mut self.state, *value);
            }
        } else {
            for value in values.iter().flatten() {
                F::add(&mut self.state, value);
            }
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(remove) = self.remove else {
            return Err(DataFusionError::Internal(
                "nothing is taken back".to_owned(),
            ));
        };
        let values = only(values)?.as_primitive::<F::Input>();
        self.count = self
            .count
            .saturating_sub(values.len() - values.null_count());
        for value in values.iter().flatten() {
            remove(&mut self.state, value);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        self.remove.is_some()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.fold.finish(self.array())?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let states = self.fold.states(self.array());
        Ok(vec![ScalarValue::try_from_array(&states, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for other in only(states)?.as_primitive::<F::State>().iter().flatten() {
            F::merge(&mut self.state, other)?;
            self.count += 1;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

fn only(arrays: &[ArrayRef]) -> Result<&Arc<dyn Array>> {
    match arrays {
        [only] => Ok(only),
        _ => Err(DataFusionError::Internal(format!(
            "one column was expected, not {}",
            arrays.len()
        ))),
    }
}
