package main

import (
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
)

// logLines is how many log lines may wait for a reader.
const logLines = 4096

// logWriter lets nobody wait for who reads the log: lines wait in a bounded queue,
// and are dropped and counted when it is full. Its Write takes one line a call, as
// slog's handlers do, and is safe for concurrent use.
type logWriter struct {
	out     io.Writer
	direct  *slog.Logger // writes to out, for what the queue has to say itself
	mu      sync.RWMutex // held for writing by close
	closed  bool
	lines   chan []byte
	dropped atomic.Uint64
	wg      sync.WaitGroup
}

func newLogWriter(out io.Writer, direct *slog.Logger) *logWriter {
	w := &logWriter{out: out, direct: direct, lines: make(chan []byte, logLines)}
	w.wg.Go(w.loop)
	return w
}

// Write queues a line. It never fails; after close it writes straight.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return w.out.Write(line)
	}
	select {
	case w.lines <- append([]byte(nil), line...):
	default:
		w.dropped.Add(1)
	}
	return len(line), nil
}

func (w *logWriter) loop() {
	for line := range w.lines {
		if n := w.dropped.Swap(0); n > 0 {
			w.direct.Warn("log lines were dropped: the log is not read fast enough", "lines", n)
		}
		w.out.Write(line) //nolint:errcheck // nobody else can be told
	}
}

// close writes what waits.
func (w *logWriter) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.lines)
	}
	w.mu.Unlock()
	w.wg.Wait()
}
