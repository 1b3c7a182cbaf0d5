package users

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// While wrong passwords take all there is, who has a token signs in at once, and who
// has a password is told that the server is busy.
func TestTokensDoNotWaitForPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := []byte("right")
		f := &File{
			users: map[string]User{"ann": {}, "bob": {}}, pool: newPool(1, 2, time.Minute),
			tokens: map[string][32]byte{"ann": sha256.Sum256(token)}, hashes: map[string]hash{"bob": {memory: 8, time: 1, lanes: 1, sum: make([]byte, 16)}},
		}
		sign := func(user string, secret []byte) error {
			_, err := f.Authenticate(t.Context(), &hooks.Credentials{Username: user, HasUsername: true, Password: secret, HasPassword: true})
			return err
		}
		if err := f.pool.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			go sign("bob", []byte("wrong")) //nolint:errcheck // it waits
		}
		synctest.Wait()
		start := time.Now()
		if err := sign("ann", token); err != nil || time.Since(start) != 0 {
			t.Errorf("the token: %v after %v", err, time.Since(start))
		}
		no, ok := errors.AsType[*hooks.Refusal](sign("bob", []byte("password")))
		if !ok || no.Reason != mqtt.ServerBusy || !no.Later {
			t.Errorf("the password: %+v", no)
		}
		<-f.pool.running
	})
}

// Who is known can't be told from the time: a wrong password, a wrong token and an
// unknown user all cost one argon2id, of the costliest parameters in the file if there
// is no hash to compare with.
func TestEveryFailureCostsAPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, token := NewToken()
		costly := "$argon2id$v=19$m=64,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		text := fmt.Sprintf("users: {ann: {token: %q}, bob: {password: %q}, cat: {password: %q}, dan: {}}", token, costly, strings.Replace(costly, "t=3", "t=1", 1))
		f, err := Parse("users.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if bob := f.hashes["bob"]; f.decoy.cost() != bob.cost() || f.decoy.cost() == 0 {
			t.Errorf("where there is no hash it costs %d, bob's costs %d", f.decoy.cost(), bob.cost())
		}
		f.pool = newPool(1, 1, time.Minute)
		if err := f.pool.enter(t.Context()); err != nil { // nobody's turn comes: who needs an argon2id is told so
			t.Fatal(err)
		}
		for _, name := range []string{"ann", "bob", "cat", "dan", "eve"} {
			_, err := f.Authenticate(t.Context(), &hooks.Credentials{Username: name, HasUsername: true, Password: []byte("wrong"), HasPassword: true})
			if no, ok := errors.AsType[*hooks.Refusal](err); !ok || no.Reason != mqtt.ServerBusy {
				t.Errorf("%s is refused without an argon2id: %v", name, err)
			}
		}
		<-f.pool.running
	})
}

// One runs, one waits, the third is refused at once; who waits gives up when its
// time or its context ends.
func TestPoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1, time.Second)
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := make(chan error, 1)
		go func() { first <- p.enter(t.Context()) }()
		synctest.Wait()
		if err := p.enter(t.Context()); !errors.Is(err, errBusy) {
			t.Errorf("the third gets %v", err)
		}
		start := time.Now()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("who waits gets %v after %v", err, time.Since(start))
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { first <- p.enter(ctx) }()
		synctest.Wait()
		stop()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who has left gets %v", err)
		}
		<-p.running
		if err := p.enter(t.Context()); err != nil {
			t.Errorf("the next gets %v", err)
		}
	})
}
