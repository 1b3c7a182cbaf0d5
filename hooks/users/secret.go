package users

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
)

// NewToken makes a token of 130 random bits, and what the file holds of it.
func NewToken() (token, stored string) {
	token = rand.Text()
	sum := sha256.Sum256([]byte(token))
	return token, "sha256:" + hex.EncodeToString(sum[:])
}

func parseToken(stored string) (sum [sha256.Size]byte, err error) {
	h, ok := strings.CutPrefix(stored, "sha256:")
	b, err := hex.DecodeString(h)
	if err != nil || !ok || len(b) != len(sum) {
		return sum, errors.New(`token must be "sha256:" and 64 hex digits, the hash of the token; geocast users passwd --token makes one`)
	}
	copy(sum[:], b)
	return sum, nil
}

// hash is an argon2id hash of a password with its parameters.
type hash struct {
	memory, time uint32 // KiB, passes
	lanes        uint8
	salt, sum    []byte
}

// The parameters of new hashes: OWASP's for argon2id on small servers, 19 MiB
// each while one is computed.
const (
	hashMemory = 19456
	hashTime   = 2
	hashLanes  = 1
)

// HashPassword returns the argon2id hash of a password as the file holds it: a PHC
// string, $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func HashPassword(password []byte) string {
	h := hash{memory: hashMemory, time: hashTime, lanes: hashLanes, salt: make([]byte, 16)}
	rand.Read(h.salt) //nolint:errcheck // it never returns an error
	h.sum = h.of(password, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.lanes, b64.EncodeToString(h.salt), b64.EncodeToString(h.sum))
}

func (h *hash) of(password []byte, size int) []byte {
	return argon2.IDKey(password, h.salt, h.time, h.memory, h.lanes, uint32(size))
}

func (h *hash) cost() uint64 { return uint64(h.memory) * uint64(h.time) }

// errHash says what a password in the file looks like.
var errHash = errors.New("password must be an argon2id hash, $argon2id$v=19$m=19456,t=2,p=1$salt$hash, of at most 256 MiB and 16 passes; geocast users passwd makes one")

// parseHash reads a PHC string; the leading $ may be missing.
func parseHash(s string) (h hash, err error) {
	part := strings.Split(strings.TrimPrefix(s, "$"), "$")
	if len(part) != 5 || part[0] != "argon2id" || part[1] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errHash
	}
	if n, err := fmt.Sscanf(part[2], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.lanes); err != nil || n != 3 {
		return h, errHash
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err1 := b64.DecodeString(part[3])
	sum, err2 := b64.DecodeString(part[4])
	h.salt, h.sum = salt, sum
	bounded := h.memory >= 8*uint32(h.lanes) && h.memory <= 256<<10 && h.time >= 1 && h.time <= 16 && h.lanes >= 1 && h.lanes <= 16
	if err1 != nil || err2 != nil || !bounded || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64 {
		return h, errHash
	}
	return h, nil
}

// pool bounds how many passwords are verified at once, and how many wait.
type pool struct {
	running chan struct{} // holds one token for each that is computed
	waiting atomic.Int64
	most    int64         // that may wait
	wait    time.Duration // that one waits at most
}

func newPool(running, waiting int, wait time.Duration) *pool {
	return &pool{running: make(chan struct{}, running), most: int64(waiting), wait: wait}
}

// passwords is the process's pool: the CPUs are the same for all files.
var passwords = newPool(runtime.GOMAXPROCS(0), 256, 5*time.Second)

// errBusy is returned by verify when too many wait already.
var errBusy = errors.New("users: too many passwords wait to be verified")

// verify compares a password with a hash when its turn comes. It returns errBusy
// or the error of ctx if it does not come.
func (p *pool) verify(ctx context.Context, h *hash, password []byte) (bool, error) {
	if err := p.enter(ctx); err != nil {
		return false, err
	}
	defer func() { <-p.running }()
	return subtle.ConstantTimeCompare(h.of(password, len(h.sum)), h.sum) == 1, nil
}

func (p *pool) enter(ctx context.Context) error {
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > p.most {
		return errBusy
	}
	ctx, stop := context.WithTimeout(ctx, p.wait)
	defer stop()
	select {
	case p.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
