package store

// WithDefaults fills the zero fields in.
func (l Limits) WithDefaults() Limits { return l.withDefaults() }
