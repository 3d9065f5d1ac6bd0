package coffer

import (
	"crypto/subtle"
	"errors"
	"fmt"
)

// Value is the bytes of one value of a secret. It shows itself nowhere: not by fmt, not in JSON.
type Value struct {
	data []byte
}

// Bytes returns the value, which must not be changed.
func (v Value) Bytes() []byte { return v.data }

// Text returns the value as text.
func (v Value) Text() string { return string(v.data) }

// Len is the number of its bytes.
func (v Value) Len() int { return len(v.data) }

// Equal compares in a time that does not depend on where they differ.
func (v Value) Equal(other Value) bool { return subtle.ConstantTimeCompare(v.data, other.data) == 1 }

// String says how long the value is.
func (v Value) String() string { return fmt.Sprintf("<value of %d bytes>", len(v.data)) }

// Format does the same for every verb.
func (v Value) Format(state fmt.State, _ rune) { _, _ = fmt.Fprint(state, v.String()) }

// MarshalJSON refuses.
func (v Value) MarshalJSON() ([]byte, error) {
	return nil, errors.New("coffer: a value of a secret is not written as JSON")
}
