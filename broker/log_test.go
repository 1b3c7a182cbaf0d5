package broker_test

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// logText is a log that tests read.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logText) have(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

// count is how many lines hold text.
func (l *logText) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *logText) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// want waits for a line that matches.
func (l *logText) want(t *testing.T, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	until(t, "a line matches "+pattern, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return re.Match(l.buf.Bytes())
	})
}
