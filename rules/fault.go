package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Fault is one error of a rules file. Line and Column count from 1; both are 0 when the whole file is meant.
type Fault struct {
	File   string
	Line   int
	Column int
	Text   string
}

// Error returns file:line:column: text, the form that editors jump to.
func (f Fault) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
}

// Faults are all errors of the files given to [Load] or [Parse], in the order of the files and of their lines.
type Faults []Fault

// Error returns one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// inOrder sorts fs by line and column and drops repetitions.
func (fs Faults) inOrder() Faults {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(fs)
}
