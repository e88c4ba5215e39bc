package peersync

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/healthpost/healthpost/record"
)

const (
	joinBytesMax = 64 << 10
	joinTimeout  = 2 * time.Minute
	joinsMax     = 4 // at a time
)

// JoinHandler answers one request to join. An error closes the stream without an
// answer.
type JoinHandler func(ctx context.Context, peer record.DeviceID, request []byte) (response []byte, err error)

// HandleJoin serves the join protocol until Close. Four requests are answered at
// a time; others are turned away.
func (b *Host) HandleJoin(handle JoinHandler) {
	slots := make(chan struct{}, joinsMax)
	b.h.SetStreamHandler(JoinProtocol, func(s network.Stream) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			_ = s.Reset()
			return
		}
		if err := serveJoin(s, handle); err != nil {
			_ = s.Reset()
		}
	})
}

func serveJoin(s network.Stream, handle JoinHandler) error {
	d, err := DeviceOf(s.Conn().RemotePeer())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
	defer cancel()
	if err := s.SetDeadline(time.Now().Add(joinTimeout)); err != nil {
		return err
	}
	request, err := readBounded(s)
	if err != nil {
		return err
	}
	response, err := handle(ctx, d, request)
	if err != nil {
		return err
	}
	if len(response) > joinBytesMax {
		return fmt.Errorf("answering a join: %d bytes", len(response))
	}
	if _, err := s.Write(response); err != nil {
		return err
	}
	return s.Close()
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, joinBytesMax+1))
	if err == nil && len(b) > joinBytesMax {
		err = misbehaved("more than %d bytes", joinBytesMax)
	}
	return b, err
}

// RequestJoin asks the hub at one of the addresses, which may end in /p2p/, and
// gives its answer. It needs no other host to run with this key.
func RequestJoin(ctx context.Context, key ed25519.PrivateKey, hub record.DeviceID, addresses []string, request []byte) ([]byte, error) {
	b, err := NewHost(HostOptions{Key: key})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return b.RequestJoin(ctx, hub, addresses, request)
}

// RequestJoin is the function of the same name on a host that runs.
func (b *Host) RequestJoin(ctx context.Context, hub record.DeviceID, addresses []string, request []byte) ([]byte, error) {
	if len(request) > joinBytesMax {
		return nil, fmt.Errorf("asking to join: request of %d bytes", len(request))
	}
	dial, err := dialable(hub, addresses)
	if err != nil {
		return nil, fmt.Errorf("asking to join: %w", err)
	}
	id, err := PeerID(hub)
	if err != nil {
		return nil, err
	}
	b.gate.joining(id, 1)
	defer b.gate.joining(id, -1)
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if _, err := b.connect(ctx, hub, dial, false, nil); err != nil {
		return nil, fmt.Errorf("asking to join: %w", err)
	}
	s, err := b.stream(ctx, id, JoinProtocol)
	if err != nil {
		return nil, fmt.Errorf("asking to join: %w", err)
	}
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if _, err := s.Write(request); err != nil {
		return nil, fmt.Errorf("asking to join: %w", err)
	}
	if err := s.CloseWrite(); err != nil {
		return nil, fmt.Errorf("asking to join: %w", err)
	}
	response, err := readBounded(s)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil && len(response) == 0 {
		err = ErrNotAllowed
	}
	if err != nil {
		return nil, fmt.Errorf("asking to join: %w", err)
	}
	return response, nil
}

// dialable parses addresses of one device and leaves out those of another.
func dialable(d record.DeviceID, addresses []string) ([]ma.Multiaddr, error) {
	var list []ma.Multiaddr
	var errs []error
	for _, s := range addresses {
		who, a, err := SplitAddress(s)
		if err != nil {
			errs = append(errs, err)
		} else if who == d || who == (record.DeviceID{}) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, errors.Join(append(errs, ErrNoPeer)...)
	}
	return list, nil
}
