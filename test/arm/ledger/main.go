// Command ledger writes and reads a replica whose content depends on a log of
// items alone, so that two processors can be compared.
//
//	ledger generate FILE SEED RECORDS    writes the log: that many signed clinical records, from a seed
//	ledger write DIR FILE                orders the log, every signature checked, and prints the tree head
//	ledger count DIR                     reads every entry and body and prints the head of the tree it built from them
//	ledger read DIR                      the same, with every signature checked again
//
// An item in the log is its length in four bytes, big endian, and its bytes.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var head record.TreeHead
	var err error
	switch {
	case len(args) == 4 && args[0] == "generate":
		return generate(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "write":
		head, err = write(args[1], args[2])
	case len(args) == 2 && args[0] == "count":
		head, err = read(args[1], false)
	case len(args) == 2 && args[0] == "read":
		head, err = read(args[1], true)
	default:
		return errors.New("want: generate FILE SEED RECORDS, write DIR FILE, count DIR, or read DIR")
	}
	if err != nil {
		return err
	}
	fmt.Printf("size %d\nroot %x\n", head.Size, head.Root)
	return nil
}

// generate writes the founding item and then items of full size.
func generate(path, seed, records string) error {
	from, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return fmt.Errorf("reading the seed: %w", err)
	}
	left, err := strconv.Atoi(records)
	if err != nil {
		return fmt.Errorf("reading the number of records: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("making the log: %w", err)
	}
	w := bufio.NewWriter(f)
	l, item := newLog(from)
	for {
		b := item.Encode()
		w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))) // an error stays until Flush
		w.Write(b)
		if left == 0 {
			return errors.Join(w.Flush(), f.Close())
		}
		n := min(left, record.BatchRecordsMax)
		item, left = l.next(n), left-n
	}
}

// write orders the items of a log, each of which must be taken whole.
func write(dir, path string) (record.TreeHead, error) {
	f, err := os.Open(path)
	if err != nil {
		return record.TreeHead{}, fmt.Errorf("opening the log: %w", err)
	}
	defer f.Close()
	s, err := store.Open(dir, store.NewOptions())
	if err != nil {
		return record.TreeHead{}, err
	}
	r := bufio.NewReader(f)
	for index := uint64(1); ; index++ {
		item, err := next(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = order(s, index, item)
		}
		if err != nil {
			return record.TreeHead{}, errors.Join(err, s.Close())
		}
	}
	head := s.Head()
	return head, errors.Join(s.Barrier(context.Background()), s.Close())
}

// next reads one item; io.EOF after the last.
func next(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	item := make([]byte, min(binary.BigEndian.Uint32(n[:]), 1<<20))
	if _, err := io.ReadFull(r, item); err != nil {
		return nil, fmt.Errorf("reading the log: %w", io.ErrUnexpectedEOF)
	}
	return item, nil
}

func order(s *store.Store, index uint64, item []byte) error {
	outcomes, err := s.Order(index, 1, item)
	if err != nil {
		return fmt.Errorf("ordering item %d: %w", index, err)
	}
	for i, out := range outcomes {
		if out.Verdict != record.Ordered {
			return fmt.Errorf("ordering item %d: record %d of %d: %v", index, i, len(outcomes), out.Verdict)
		}
	}
	return nil
}

// read trusts nothing but the bytes: it checks each body, and each signature
// when asked to, and builds the tree again.
func read(dir string, signatures bool) (record.TreeHead, error) {
	s, err := store.Open(dir, store.NewOptions())
	if err != nil {
		return record.TreeHead{}, err
	}
	head, err := rebuild(s, signatures)
	if err == nil && head != s.Head() {
		err = fmt.Errorf("entries give size %d, root %x; the store says %d, %x", head.Size, head.Root, s.Head().Size, s.Head().Root)
	}
	return head, errors.Join(err, s.Close())
}

func rebuild(s *store.Store, signatures bool) (record.TreeHead, error) {
	tree, err := record.NewRange(0, nil)
	if err != nil {
		return record.TreeHead{}, err
	}
	for seq := range s.Head().Size {
		e, err := s.Entry(seq)
		if err != nil {
			return record.TreeHead{}, fmt.Errorf("reading entry %d: %w", seq, err)
		}
		if err := check(s, &e.Record, signatures); err != nil {
			return record.TreeHead{}, fmt.Errorf("verifying entry %d: %w", seq, err)
		}
		tree.Append(record.LeafHash(e.EncodeLeaf()))
	}
	return tree.Head(), nil
}

func check(s *store.Store, r *record.Record, signatures bool) error {
	if r.Body == nil {
		return errors.New("no body")
	}
	if err := r.VerifyBody(); err != nil || !signatures {
		return err
	}
	epoch, ok, err := s.State().Epoch(r.Position().Epoch)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("unknown epoch")
	}
	return r.VerifySignature(epoch.Device)
}
