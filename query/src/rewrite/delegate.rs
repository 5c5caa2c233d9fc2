//! What a replaced aggregate function leaves to the one it replaces, `self.inner`. Must never name
//! what is replaced.

/// The methods of `AggregateUDFImpl` that no replacement has a say in.
macro_rules! delegate {
    () => {
        fn name(&self) -> &str {
            self.inner.name()
        }

        fn aliases(&self) -> &[String] {
            self.inner.aliases()
        }

        fn signature(&self) -> &Signature {
            self.inner.signature()
        }

        fn return_type(&self, types: &[DataType]) -> Result<DataType> {
            self.inner.return_type(types)
        }

        fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
            self.inner.groups_accumulator_supported(args)
        }

        fn order_sensitivity(&self) -> AggregateOrderSensitivity {
            self.inner.order_sensitivity()
        }

        fn reverse_expr(&self) -> ReversedUDAF {
            self.inner.reverse_udf()
        }

        fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
            self.inner.coerce_types(types)
        }

        fn is_descending(&self) -> Option<bool> {
            self.inner.is_descending()
        }

        fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
            self.inner.value_from_stats(args)
        }

        fn documentation(&self) -> Option<&Documentation> {
            self.inner.documentation()
        }

        fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
            self.inner.inner().set_monotonicity(kind)
        }
    };
}

pub(super) use delegate;
