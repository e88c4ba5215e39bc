package link

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Space is a network namespace without a name. It lives in one thread: what is to
// happen inside goes through Do, and processes started there stay there.
type Space struct {
	work chan func()
	over chan struct{}
}

// NewSpace makes a namespace with nothing but loopback in it. Close it when no
// process that Start began is left.
func NewSpace() (*Space, error) {
	s := &Space{work: make(chan func()), over: make(chan struct{})}
	made := make(chan error)
	go func() {
		defer close(s.over)
		runtime.LockOSThread() // for good: the thread ends with this function, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("making a network namespace: %w", err)
			return
		}
		made <- nil
		for f := range s.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		return nil, err
	}
	// Without this the kernel's own neighbour discovery would be counted.
	off := func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) }
	if err := s.Do(off); err != nil {
		s.Close()
		return nil, fmt.Errorf("turning IPv6 off: %w", err)
	}
	if err := s.IP("link set lo up"); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Do runs f inside, one after the other.
func (s *Space) Do(f func() error) error {
	done := make(chan error)
	s.work <- func() { done <- f() }
	return <-done
}

// Start starts a command inside.
func (s *Space) Start(cmd *exec.Cmd) error { return s.Do(cmd.Start) }

// IP runs ip(8) inside.
func (s *Space) IP(args string) error {
	var out []byte
	err := s.Do(func() (err error) {
		out, err = exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// Dial opens a TCP connection from inside to a literal address.
func (s *Space) Dial(address string) (c net.Conn, err error) {
	err = s.Do(func() (err error) {
		c, err = net.Dial("tcp4", address)
		return err
	})
	return c, err
}

// Listen opens a TCP listener inside, at a literal address.
func (s *Space) Listen(address string) (l net.Listener, err error) {
	err = s.Do(func() (err error) {
		l, err = net.Listen("tcp4", address)
		return err
	})
	return l, err
}

// Close ends the thread.
func (s *Space) Close() {
	close(s.work)
	<-s.over
}

// deviceName is of the device at each end of a Link.
const deviceName = "link0"

// tun makes the device inside and gives it an address of a /30.
func (s *Space) tun(address string) (f *os.File, err error) {
	err = s.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("opening /dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(deviceName)
		if err != nil {
			return fmt.Errorf("naming the device: %w", err)
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			unix.Close(fd)
			return fmt.Errorf("making the device: %w", err)
		}
		f = os.NewFile(uintptr(fd), deviceName)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, args := range []string{"addr add " + address + "/30 dev " + deviceName, "link set " + deviceName + " up"} {
		if err := s.IP(args); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}
