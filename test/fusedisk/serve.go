package fusedisk

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const roleEnv = "HEALTHPOST_TEST_FUSEDISK" // folder and seed of a disk

// Main serves a disk and does not return when the process was started to be one.
func Main() {
	folder := os.Getenv(roleEnv)
	if folder == "" {
		return
	}
	if err := serve(folder, os.Getenv(roleEnv+"_SEED")); err != nil {
		fmt.Fprintln(os.Stderr, "disk:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// server answers the test that started the disk.
type server struct {
	t    *tree
	at   string
	mu   sync.Mutex
	fuse *fuse.Server // guarded by mu
}

// serve ends when its standard input does.
func serve(folder, seed string) error {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return fmt.Errorf("reading the seed: %w", err)
	}
	s := &server{t: newTree(folder+"/bytes", n), at: folder + "/disk"}
	if err := s.mount(); err != nil {
		return err
	}
	l, err := net.Listen("unix", folder+"/s")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/state", s.state)
	mux.HandleFunc("/stats", s.stats)
	mux.HandleFunc("/freeze", s.freeze)
	mux.HandleFunc("/cut", s.cut)
	go http.Serve(l, mux)
	fmt.Println("mounted")
	io.Copy(io.Discard, os.Stdin)
	return s.unmount()
}

func (s *server) mount() error {
	f, err := mount(s.t, s.at)
	if err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	s.fuse = f
	return nil
}

// unmount does not wait for processes that still hold the disk: they get errors.
func (s *server) unmount() error {
	if err := syscall.Unmount(s.at, syscall.MNT_DETACH|syscall.MNT_FORCE); err != nil {
		return fmt.Errorf("unmounting: %w", err)
	}
	return nil
}

func (s *server) state(w http.ResponseWriter, r *http.Request) {
	var state State
	if err := json.NewDecoder(r.Body).Decode(&state); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.t.set(state)
}

func (s *server) stats(w http.ResponseWriter, _ *http.Request) {
	json.NewEncoder(w).Encode(s.t.counts())
}

func (s *server) freeze(http.ResponseWriter, *http.Request) { s.t.freeze() }

func (s *server) cut(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.freeze()
	err := s.unmount()
	if err == nil {
		s.fuse.Wait()
		err = s.t.cut(Mode(r.FormValue("mode")))
	}
	if err == nil {
		err = s.mount()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
