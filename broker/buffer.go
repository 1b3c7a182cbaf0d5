package broker

import "sync"

// bufferSize is what a read takes at most at once, and the least that output is
// gathered in, in bytes.
const bufferSize = 8 << 10

// buffers are shared by everything that reads and writes sockets. They are held
// as arrays, so that giving one back does not allocate.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// getBuffer returns an empty buffer with room for bufferSize.
func getBuffer() []byte { return buffers.Get().(*[bufferSize]byte)[:0] }

// putBuffer gives a buffer back; it must not be used any more. One that has grown
// is left to the garbage collector.
func putBuffer(b []byte) {
	if cap(b) == bufferSize {
		buffers.Put((*[bufferSize]byte)(b[:bufferSize]))
	}
}
