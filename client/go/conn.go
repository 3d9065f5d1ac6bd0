// Package coffer is a client of Coffer, which hands out the credentials that an action of a workflow may have.
//
// A Client resolves references and expressions. Its Conn is a grpc.ClientConnInterface over Coffer's own protocol: the stubs
// that protoc-gen-go-grpc makes work over it. Everything may be used by several goroutines at once.
package coffer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"coffer.internal/client/rpcpb"
)

const (
	revision        = 1
	idleLinks       = 8
	defaultTimeout  = 30 * time.Second
	defaultResponse = 4 << 20
	firstPause      = 50 * time.Millisecond
	longestPause    = 2 * time.Second
	patience        = 250 * time.Millisecond // beyond the time that the server was given
	leastAttempt    = time.Second
	userAgent       = "coffer-go/0.1.0"
)

// RequestID is the identity of a call, the same in all of its attempts: a UUIDv7 (RFC 9562).
type RequestID [16]byte

// NewRequestID makes one.
func NewRequestID() RequestID {
	var id RequestID
	binary.BigEndian.PutUint64(id[:8], uint64(time.Now().UnixMilli())<<16)
	if _, err := rand.Read(id[6:]); err != nil {
		panic("coffer: the system gives no random numbers: " + err.Error())
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (id RequestID) String() string {
	text := hex.EncodeToString(id[:])
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

type requestIDKey struct{}

// WithRequestID repeats an earlier call, to learn whether a write happened; without it every call has a new ID.
func WithRequestID(ctx context.Context, id RequestID) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// Config is how a Conn reaches its servers.
type Config struct {
	// Addresses are ipc://PATH, tls+tcp://HOST:PORT or tcp://HOST:PORT, several of them separated by commas. Empty: the
	// variable COFFER_ADDR.
	Addresses string
	// Token is sent with every call. Empty: TokenFile, or the variables COFFER_TOKEN_FILE and COFFER_TOKEN.
	Token string
	// TokenFile is read anew for every call, so that a rotated token is taken.
	TokenFile string
	// TLS has the authorities and the certificate for tls+tcp://; nil: the system's authorities.
	TLS *tls.Config
	// Timeout is the time for a call whose context has no deadline; 0: 30 seconds.
	Timeout time.Duration
	// MaxResponse is the largest answer in bytes; 0: 4 MiB.
	MaxResponse int
}

// Format shows where it leads, and neither token nor keys.
func (c Config) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "<config for %s>", c.Addresses)
}

// secrets are what a Conn must not show; a function shows nothing.
type secrets func() (token, tokenFile string, config *tls.Config)

// server is an address and its idle links.
type server struct {
	address address
	lock    sync.Mutex
	idle    []*link
}

func (s *server) take() *link {
	s.lock.Lock()
	defer s.lock.Unlock()
	if len(s.idle) == 0 {
		return nil
	}
	last := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	return last
}

func (s *server) giveBack(used *link) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if len(s.idle) < idleLinks {
		s.idle = append(s.idle, used)
		return
	}
	used.conn.Close()
}

func (s *server) close() {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, one := range s.idle {
		one.conn.Close()
	}
	s.idle = nil
}

// Conn calls methods of a server, or of whichever of several answers. A call that gets no answer is repeated with the same
// request ID, so that a write happens once, until its time is over.
type Conn struct {
	timeout time.Duration
	largest int
	secrets secrets
	servers []*server
	first   atomic.Int64 // the server that answered last
	closed  atomic.Bool
}

var _ grpc.ClientConnInterface = (*Conn)(nil)

// Dial makes a Conn. It connects when it is called.
func Dial(config Config) (*Conn, error) {
	if config.Addresses == "" {
		config.Addresses = os.Getenv("COFFER_ADDR")
	}
	if config.Token == "" && config.TokenFile == "" {
		config.TokenFile, config.Token = os.Getenv("COFFER_TOKEN_FILE"), os.Getenv("COFFER_TOKEN")
	}
	if config.Timeout == 0 {
		config.Timeout = defaultTimeout
	}
	if config.MaxResponse == 0 {
		config.MaxResponse = defaultResponse
	}
	made := &Conn{timeout: config.Timeout, largest: config.MaxResponse}
	made.secrets = func() (string, string, *tls.Config) { return config.Token, config.TokenFile, config.TLS }
	for _, text := range strings.Split(config.Addresses, ",") {
		to, err := parseAddress(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		made.servers = append(made.servers, &server{address: to})
	}
	return made, nil
}

// Close lets go of the connections. Calls that run end as they would; new ones are refused.
func (c *Conn) Close() error {
	c.closed.Store(true)
	for _, one := range c.servers {
		one.close()
	}
	return nil
}

// NewStream refuses: Coffer has no streams.
func (c *Conn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, &Error{Code: codes.Unimplemented, Message: "Coffer has no streams"}
}

// call is what stays the same over all attempts, and what became of them.
type call struct {
	method    string
	payload   []byte
	entries   []*rpcpb.MetadataEntry
	deadline  time.Time
	id        RequestID
	attempts  int // that were sent
	tries     int // also those that found no server
	failure   *Error
	notBefore map[int]time.Time
}

func (c *call) failed(code codes.Code, reason, message string) *Error {
	return &Error{Code: code, Reason: reason, Message: message, RequestID: c.id, Attempts: c.attempts}
}

// Invoke calls a method, as stubs do. Of the options of grpc none has a meaning here; metadata is taken from the context.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	request, ok := args.(proto.Message)
	response, fine := reply.(proto.Message)
	if !ok || !fine {
		return &Error{Code: codes.Internal, Message: "request and reply must be messages of protobuf"}
	}
	payload, err := proto.Marshal(request)
	if err != nil {
		return &Error{Code: codes.InvalidArgument, Message: "the request cannot be serialized"}
	}
	one, err := c.newCall(ctx, strings.TrimPrefix(method, "/"), payload)
	if err != nil {
		return err
	}
	answer, err := c.run(ctx, one)
	if err != nil {
		return err
	}
	if proto.Unmarshal(answer, response) != nil {
		return one.failed(codes.Internal, "REPLY_INVALID", "the server's answer cannot be decoded")
	}
	return nil
}

func (c *Conn) newCall(ctx context.Context, method string, payload []byte) (*call, error) {
	if c.closed.Load() {
		return nil, &Error{Code: codes.Canceled, Reason: "CLIENT_CLOSED", Message: "the connection was closed; dial another"}
	}
	made := &call{method: method, payload: payload, deadline: time.Now().Add(c.timeout), notBefore: map[int]time.Time{}}
	if deadline, ok := ctx.Deadline(); ok {
		made.deadline = deadline
	}
	if id, ok := ctx.Value(requestIDKey{}).(RequestID); ok {
		made.id = id
	} else {
		made.id = NewRequestID()
	}
	return made, c.addMetadata(ctx, made)
}

func (c *Conn) addMetadata(ctx context.Context, to *call) error {
	token, file, _ := c.secrets()
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return to.failed(codes.Unauthenticated, "TOKEN_MISSING", "the file of the token cannot be read; check its path and owner")
		}
		token = strings.TrimSpace(string(text))
	}
	add := func(key, value string) {
		to.entries = append(to.entries, &rpcpb.MetadataEntry{Key: key, Value: []byte(value)})
	}
	add("user-agent", userAgent)
	if token != "" {
		add("authorization", "Bearer "+token)
	}
	given, _ := metadata.FromOutgoingContext(ctx)
	for key, values := range given {
		for _, value := range values {
			add(key, value)
		}
	}
	return nil
}

// run makes attempts until there is an answer or no time left.
func (c *Conn) run(ctx context.Context, one *call) ([]byte, error) {
	index := int(c.first.Load())
	for {
		if err := c.pause(ctx, one, index); err != nil {
			return nil, err
		}
		answer, again, err := c.attempt(ctx, one, index)
		if err != nil {
			return nil, err
		}
		if answer != nil {
			c.first.Store(int64(index))
			return answer.GetPayload(), nil
		}
		if !again {
			index = (index + 1) % len(c.servers)
		}
	}
}

// pause waits as long as it must before the next attempt, and fails if there is no time left for one.
func (c *Conn) pause(ctx context.Context, one *call, index int) error {
	wait := time.Until(one.notBefore[index])
	if rounds := one.tries / len(c.servers); rounds > 0 {
		full := math.Min(float64(longestPause), float64(firstPause)*math.Pow(2, float64(rounds-1)))
		if random := time.Duration(full * (0.5 + mathrand.Float64()/2)); random > wait {
			wait = random
		}
	}
	if wait < 0 {
		wait = 0
	}
	if time.Until(one.deadline) <= wait {
		return one.over()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return one.ended(ctx)
	}
}

// over is the failure of a call whose time is over: what it met last, or that.
func (c *call) over() error {
	if c.failure != nil && c.failure.Reason != "DEADLINE_EXCEEDED" {
		return c.failure
	}
	return c.failed(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "the time for the call is over; allow it more time")
}

func (c *call) ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return c.failed(codes.Canceled, "", "the call was cancelled; a write may have happened all the same")
	}
	return c.over()
}

// patient is a context whose deadline is not that of the server's answer, which may come a little later.
type patient struct{ context.Context }

func (patient) Deadline() (time.Time, bool) { return time.Time{}, false }

// attempt returns the answer; or nil if another attempt may help, and whether that is to be made at the same address.
func (c *Conn) attempt(ctx context.Context, one *call, index int) (*rpcpb.ResponseFrame, bool, error) {
	limit := time.Until(one.deadline)
	if half := limit / 2; len(c.servers) > 1 && limit > leastAttempt {
		limit = half
		if limit < leastAttempt {
			limit = leastAttempt
		}
	}
	within, cancel := context.WithDeadline(patient{ctx}, time.Now().Add(limit+patience))
	defer cancel()
	to := c.servers[index]
	used := to.take()
	stale := used != nil // it may have been closed while nobody used it
	var err error
	if !stale {
		one.tries++
		_, _, config := c.secrets()
		used, err = openLink(within, to.address, config, c.largest)
	}
	var frame *rpcpb.ResponseFrame
	if err == nil {
		frame, err = one.exchange(within, used, limit)
	}
	if err != nil {
		if used != nil {
			used.conn.Close()
		}
		if ctx.Err() != nil {
			return nil, false, one.ended(ctx)
		}
		return nil, one.lost(err) && stale, nil
	}
	to.giveBack(used)
	return c.judge(one, frame, index)
}

// lost notes why there is no answer; true: it was not for want of time.
func (c *call) lost(err error) bool {
	var timeout net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		(errors.As(err, &timeout) && timeout.Timeout()) {
		c.failure = c.failed(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "the server did not answer in time; allow it more time")
		return false
	}
	c.failure = c.failed(codes.Unavailable, "NOT_CONNECTED", "no server could be reached: "+err.Error()+"; check address and server")
	return true
}

func (c *call) exchange(ctx context.Context, over *link, limit time.Duration) (*rpcpb.ResponseFrame, error) {
	milliseconds := limit.Milliseconds()
	if milliseconds < 1 {
		milliseconds = 1
	}
	frame, err := proto.Marshal(&rpcpb.RequestFrame{
		Revision: revision, Method: c.method, Payload: c.payload, TimeoutMs: uint32(milliseconds),
		RequestId: c.id[:], Attempt: uint32(c.attempts), Metadata: c.entries,
	})
	if err != nil {
		return nil, errors.New("the request's frame cannot be serialized")
	}
	c.attempts++
	answer := &rpcpb.ResponseFrame{}
	var invalid error
	err = over.exchange(ctx, frame, func(data []byte) bool {
		proto.Reset(answer)
		if proto.Unmarshal(data, answer) != nil {
			invalid = errors.New("the server's answer cannot be decoded")
			return true
		}
		return string(answer.GetRequestId()) == string(c.id[:])
	})
	if err == nil {
		err = invalid
	}
	return answer, err
}

func (c *Conn) judge(one *call, frame *rpcpb.ResponseFrame, index int) (*rpcpb.ResponseFrame, bool, error) {
	if frame.GetCode() == 0 {
		return frame, false, nil
	}
	failure := errorOf(frame, one)
	busy := failure.Code == codes.ResourceExhausted && failure.RetryAfter > 0
	late := failure.Code == codes.DeadlineExceeded && len(c.servers) > 1 && time.Until(one.deadline) > firstPause
	if failure.Code != codes.Unavailable && !busy && !late {
		return nil, false, failure
	}
	one.failure = failure
	one.notBefore[index] = time.Now().Add(failure.RetryAfter)
	return nil, false, nil
}
