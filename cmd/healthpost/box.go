package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/skip2/go-qrcode"
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

func isNoBox(err error) bool            { return errors.Is(err, node.ErrNoBox) }
func minutesOf(m minutes) time.Duration { return time.Duration(m) * time.Minute }

func parseRole(s string, standalone bool) (record.Role, error) {
	switch r := record.Role(s); r {
	case record.RoleHub, record.RoleClinic, record.RoleField:
		return r, nil
	case record.RoleStandalone:
		if standalone {
			return r, nil
		}
	}
	if standalone {
		return "", usagef("role %q: choose clinic, hub, field or standalone", s)
	}
	return "", usagef("role %q: choose clinic, hub or field", s)
}

func defaultName() string {
	if h, err := os.Hostname(); err == nil && h != "" {
		return h
	}
	return "box"
}

func initCommand(g *global) *cobra.Command {
	var role, name string
	var l newLock
	c := &cobra.Command{
		Use: "init", Short: "Make a box in a new or empty folder", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := g.dataDir()
			if err != nil {
				return err
			}
			r, err := parseRole(role, true)
			if err != nil {
				return err
			}
			if err := l.makeBox(c, g, dir, r, name); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "Made %q, a %s, in %s.\n", name, r, dir)
			switch r {
			case record.RoleStandalone:
				fmt.Fprintf(c.OutOrStdout(), "Start it with: healthpost run --data %s\n", dir)
			case record.RoleHub:
				fmt.Fprintf(c.OutOrStdout(), "First hub of a region: healthpost region create NAME --data %s\nOtherwise: healthpost join INVITATION --data %s\n", dir, dir)
			default:
				fmt.Fprintf(c.OutOrStdout(), "Next: healthpost join INVITATION --data %s\n", dir)
			}
			return nil
		},
	}
	c.Flags().StringVar(&role, "role", "standalone", "clinic, hub, field or standalone")
	c.Flags().StringVar(&name, "name", defaultName(), "name of the box, as staff know it")
	l.flags(c)
	return c
}

// makeBox makes a box whose keys are under this lock, or under none.
func (l *newLock) makeBox(c *cobra.Command, g *global, dir string, r record.Role, name string) error {
	if !l.isAsked() {
		_, err := node.Init(dir, r, name)
		return err
	}
	if err := l.check(); err != nil {
		return err
	}
	by, err := l.opener(c, newSecretReader(c))
	if err != nil {
		return err
	}
	if l.chip() == node.NoChip {
		_, err = node.InitLocked(dir, r, name, *by)
		return err
	}
	o, err := g.options() // they name the chip
	if err == nil {
		_, err = node.InitWithTPM(dir, r, name, o.TPM, l.chip(), *by)
	}
	return err
}

func runCommand(g *global) *cobra.Command {
	var page, name, tree string
	c := &cobra.Command{
		Use: "run", Short: "Run the box until it is stopped", Args: cobra.NoArgs,
		Long: "Run the box until it is stopped. In an empty folder it first makes a standalone box: a region of one.",
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := g.options()
			if err != nil {
				return err
			}
			if c.Flags().Changed("page") {
				o.Page = page
			}
			if c.Flags().Changed("log") {
				o.LogAddress = tree
			}
			if _, err := node.LoadBox(o.Data); isNoBox(err) && g.data == "" {
				if _, err := node.Init(o.Data, record.RoleStandalone, name); err != nil {
					return err
				}
			} else if isNoBox(err) {
				return hint(o.Data, err)
			}
			noCore()
			return node.Start(c.Context(), o, func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) }, func(page string) {
				fmt.Fprintf(c.OutOrStdout(), "Page: %s\n", page)
				daemon.SdNotify(false, daemon.SdNotifyReady) // nobody listens outside systemd
			})
		},
	}
	c.Flags().StringVar(&page, "page", "", "address of the page (default localhost:8080)")
	c.Flags().StringVar(&tree, "log", "", "on a hub: address where the ledger is served over HTTP for witnesses and auditors (default nowhere)")
	c.Flags().StringVar(&name, "name", defaultName(), "name of the box when it is made now")
	return c
}

// noCore keeps the memory of a box that dies, with its keys, off the disk.
func noCore() { syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) } // where it fails, LimitCORE of the service holds

func joinCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "join INVITATION", Short: "Join the region that an invitation names", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := g.options()
			if err != nil {
				return err
			}
			if _, err := node.LoadBox(o.Data); err != nil {
				return hint(o.Data, err)
			}
			region, err := node.Join(c.Context(), o, args[0], func(missing int) { writeWaiting(c.ErrOrStderr(), o, missing) })
			if err != nil {
				return err
			}
			return g.print(c, map[string]string{"region": region}, func(w io.Writer) {
				fmt.Fprintf(w, "Joined %q. Start the box with: healthpost run --data %s\n", region, o.Data)
			})
		},
	}
}

func regionCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "region", Short: "Make a region, invite boxes, see who belongs to it"}
	onlyParent(c)
	c.AddCommand(regionCreate(g), regionInvite(g), regionInviter(g), regionMembers(g), regionRevoke(g), regionAssign(g), regionHubs(g), regionRules(g), regionKeys(g), regionErase(g), regionErasures(g), regionRecovery(g), regionEscrow(g), regionReset(g))
	return c
}

func regionCreate(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "create NAME", Short: "Make a region with this hub as its first member", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := g.options()
			if err != nil {
				return err
			}
			id, err := node.CreateRegion(c.Context(), o, args[0])
			if err != nil {
				return hint(o.Data, err)
			}
			return g.print(c, map[string]string{"region": id.String(), "name": args[0]}, func(w io.Writer) {
				fmt.Fprintf(w, "Made region %q (%s). Start this hub with: healthpost run --data %s\n", args[0], id.String()[:12], o.Data)
			})
		},
	}
}

func regionInvite(g *global) *cobra.Command {
	var role string
	c := &cobra.Command{
		Use: "invite", Short: "Print an invitation for one new box, as text and QR", Args: cobra.NoArgs,
		Long: "Print an invitation for one new box, as text and QR: it works once, for 24 hours. A hub makes them for boxes of every role; a clinic\nto which the hubs gave authority (region inviter) makes them for field devices, which knock at the hub that it names.",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := parseRole(role, false)
			if err != nil {
				return err
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			inv, err := cl.Invite(c.Context(), node.InviteRequest{Role: r})
			if err != nil {
				return err
			}
			return g.print(c, inv, func(w io.Writer) {
				if q, err := qrcode.New(inv.Text, qrcode.Low); err == nil {
					fmt.Fprint(w, q.ToSmallString(false))
				}
				fmt.Fprintf(w, "\nFor one %s, once, until %s. Whoever has it can join: show it only to them.\n\n  healthpost join %s\n", inv.Role, inv.Expires.Local().Format("2 January 15:04"), inv.Text)
				if inv.Waits {
					fmt.Fprintf(w, "\nIt works once this clinic has exchanged with a hub, and %s knows of it.\n", inv.Hub)
				}
			})
		},
	}
	c.Flags().StringVar(&role, "role", "clinic", "clinic, hub or field")
	return c
}

func regionMembers(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "members", Short: "List the boxes of the region", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			list, err := cl.Members(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, list, func(w io.Writer) {
				for _, m := range list {
					note := ""
					if m.Self {
						note = "  (this box)"
					}
					if m.Revoked {
						note += "  revoked"
					}
					if m.Cloned {
						note += "  runs in two boards"
					}
					fmt.Fprintf(w, "%-10s %-24s %s%s\n", m.Role, m.Name, m.Device[:12], note)
				}
			})
		},
	}
}

// writeWaiting says what a box waits for that is to be a hub.
func writeWaiting(w io.Writer, o node.Options, missing int) {
	name := "NAME"
	if b, err := node.LoadBox(o.Data); err == nil {
		name = fmt.Sprintf("%q", b.Name)
	}
	fmt.Fprintf(w, "Waits for %d more approvals: run 'healthpost region hubs approve %s' on another hub. This goes on by itself then.\n", missing, name)
}

func regionRevoke(g *global) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "revoke BOX", Short: "End a box's membership (BOX is its name or its 12 digits in 'region members')", Args: cobra.ExactArgs(1),
		Long: "End a box's membership. BOX is its name, its 12 digits as 'region members' shows them, or its device in full. For a hub this\nis a vote: see 'healthpost region hubs'.",
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			v, err := cl.Revoke(c.Context(), args[0], reason)
			if err != nil {
				return err
			}
			return g.print(c, v, func(w io.Writer) { writeVoted(w, v) })
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, kept in the ledger for all members")
	return c
}
