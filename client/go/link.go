package coffer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Greetings of the Scalability Protocols (docs/protocol.md, section 1).
var (
	clientGreeting = []byte{0, 'S', 'P', 0, 0, 0x30, 0, 0}
	serverGreeting = [8]byte{0, 'S', 'P', 0, 0, 0x31, 0, 0}
)

const topBit = 0x80000000

// address is ipc://PATH, tcp://HOST:PORT or tls+tcp://HOST:PORT.
type address struct {
	scheme, network, place string
}

func parseAddress(text string) (address, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found || rest == "" {
		return address{}, fmt.Errorf("coffer: %q is no address: ipc://PATH, tls+tcp://HOST:PORT or tcp://HOST:PORT", text)
	}
	switch scheme {
	case "ipc":
		return address{scheme, "unix", rest}, nil
	case "tcp", "tls+tcp":
		if _, _, err := net.SplitHostPort(rest); err != nil {
			return address{}, fmt.Errorf("coffer: %q is no address: %w", text, err)
		}
		return address{scheme, "tcp", rest}, nil
	}
	return address{}, fmt.Errorf("coffer: %q has a scheme that is not known: ipc, tls+tcp or tcp", text)
}

// link is one connection; it carries one call at a time. After a failure it must be closed.
type link struct {
	conn    net.Conn
	ipc     bool
	number  uint32
	largest uint64
}

func openLink(ctx context.Context, to address, config *tls.Config, largest int) (*link, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, to.network, to.place)
	if err != nil {
		return nil, err
	}
	made := &link{conn: conn, ipc: to.scheme == "ipc", largest: uint64(largest) + 4}
	stop := made.obey(ctx)
	err = made.begin(ctx, to, config)
	stop()
	if err != nil {
		made.conn.Close()
		return nil, err
	}
	return made, nil
}

func (l *link) begin(ctx context.Context, to address, config *tls.Config) error {
	var start [4]byte
	var greeting [8]byte
	if _, err := rand.Read(start[:]); err != nil {
		return err
	}
	l.number = binary.BigEndian.Uint32(start[:])
	if to.scheme == "tls+tcp" {
		secured := tls.Client(l.conn, tlsConfig(config, to))
		if err := secured.HandshakeContext(ctx); err != nil {
			return err
		}
		l.conn = secured
	}
	if _, err := l.conn.Write(clientGreeting); err != nil {
		return err
	}
	if _, err := io.ReadFull(l.conn, greeting[:]); err != nil {
		return err
	}
	if greeting != serverGreeting {
		return errors.New("what answers is no server of Coffer")
	}
	return nil
}

func tlsConfig(config *tls.Config, to address) *tls.Config {
	made := &tls.Config{}
	if config != nil {
		made = config.Clone()
	}
	made.MinVersion = tls.VersionTLS13
	made.NextProtos = []string{"coffer/1"}
	if made.ServerName == "" {
		made.ServerName, _, _ = net.SplitHostPort(to.place)
	}
	return made
}

// obey ends what the connection does when the context ends, until the function that it returns is called.
func (l *link) obey(ctx context.Context) func() {
	conn := l.conn
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-ctx.Done():
			_ = conn.SetDeadline(time.Unix(1, 0))
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// exchange sends a request frame and waits for its response frame; others belong to nobody any more.
func (l *link) exchange(ctx context.Context, frame []byte, mine func([]byte) bool) error {
	defer l.obey(ctx)()
	l.number = (l.number + 1) & (topBit - 1)
	if err := l.send(frame); err != nil {
		return err
	}
	for {
		number, answer, err := l.receive()
		if err != nil {
			return err
		}
		if number == l.number|topBit && mine(answer) {
			return nil
		}
	}
}

func (l *link) send(frame []byte) error {
	message := make([]byte, 0, 13+len(frame))
	if l.ipc {
		message = append(message, 1)
	}
	message = binary.BigEndian.AppendUint64(message, uint64(len(frame)+4))
	message = binary.BigEndian.AppendUint32(message, l.number|topBit)
	_, err := l.conn.Write(append(message, frame...))
	return err
}

func (l *link) receive() (uint32, []byte, error) {
	header := make([]byte, 8, 9)
	if l.ipc {
		header = header[:9]
	}
	if _, err := io.ReadFull(l.conn, header); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint64(header[len(header)-8:])
	if (l.ipc && header[0] != 1) || length < 4 || length > l.largest {
		return 0, nil, errors.New("the server sent what is no message, or one that is larger than it may be")
	}
	message := make([]byte, length)
	if _, err := io.ReadFull(l.conn, message); err != nil {
		return 0, nil, err
	}
	return binary.BigEndian.Uint32(message), message[4:], nil
}
