package libsandbox

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// paxXattr comes before the names of extended attributes in PAX records.
const paxXattr = "SCHILY.xattr."

// eachInTar calls put with the members of a tar stream.
func eachInTar(ctx context.Context, r io.Reader, o *CopyOptions, put func(context.Context, *member) error) error {
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar stream: %w", err)
		}
		m, err := memberOf(h, tr)
		if err != nil {
			return fmt.Errorf("tar stream: %.200q: %w", h.Name, err)
		}
		switch {
		case m == nil:
		case !copyable(m.mode):
			err = o.skip(m.name, fileType(m.mode))
		default:
			err = put(ctx, m)
		}
		if err != nil {
			return err
		}
	}
}

// memberOf is what a header says; nil is nothing.
func memberOf(h *tar.Header, data io.Reader) (*member, error) {
	m := &member{owner: Owner{uint32(h.Uid), uint32(h.Gid)}, mtime: unix.NsecToTimespec(h.ModTime.UnixNano()), data: data, size: h.Size}
	m.mode = uint32(h.Mode) & 0o7777
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) != int64(m.owner.UID) || int64(h.Gid) != int64(m.owner.GID) {
		return nil, fmt.Errorf("owner %d:%d: out of range", h.Uid, h.Gid)
	}
	var err error
	if m.name, err = memberName(h.Name); err != nil {
		return nil, err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		m.mode |= unix.S_IFREG
	case tar.TypeLink:
		m.mode |= unix.S_IFREG
		if m.hard, err = memberName(h.Linkname); err == nil && m.hard == "" {
			err = errors.New("a hard link to nothing")
		}
	case tar.TypeSymlink:
		m.mode |= unix.S_IFLNK
		m.link = h.Linkname
	case tar.TypeDir:
		m.mode |= unix.S_IFDIR
	case tar.TypeChar, tar.TypeBlock:
		m.mode |= unix.S_IFCHR
	case tar.TypeFifo:
		m.mode |= unix.S_IFIFO
	case tar.TypeXGlobalHeader:
		return nil, nil
	default:
		err = fmt.Errorf("type %q: unknown", h.Typeflag)
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok && kept(name) {
			m.xattrs = append(m.xattrs, xattr{name, []byte(value)})
		}
	}
	return m, err
}

// memberName is the name of a member below the directory that it is unpacked in. It never
// has ".." in it: whoever made the stream may not have made it for this.
func memberName(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New(`has ".." in its name`)
		}
	}
	if strings.ContainsRune(name, 0) {
		return "", errors.New("has a NUL in its name")
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

// tarStream is a tar stream that members go to.
type tarStream struct {
	w   *tar.Writer
	top string // the name of the top
	buf []byte
}

func (t *tarStream) name(name string) string {
	if t.top == "." { // not by Join, which takes it away
		return "./" + name
	}
	return path.Join(t.top, name)
}

func (t *tarStream) put(ctx context.Context, m *member) error {
	h := &tar.Header{
		Name: t.name(m.name), Mode: int64(m.mode & 0o7777), Uid: int(m.owner.UID), Gid: int(m.owner.GID),
		ModTime: time.Unix(int64(m.mtime.Sec), 0), Linkname: m.link,
	}
	for _, x := range m.xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+x.name] = string(x.value)
	}
	switch {
	case m.mode&unix.S_IFMT == unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	case m.mode&unix.S_IFMT == unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case m.hard != "":
		h.Typeflag, h.Linkname = tar.TypeLink, t.name(m.hard)
	default:
		return t.regular(ctx, h, m)
	}
	return t.header(h)
}

func (t *tarStream) header(h *tar.Header) error {
	if err := t.w.WriteHeader(h); err != nil {
		return fmt.Errorf("tar stream: %.200q: %w", h.Name, err)
	}
	return nil
}

func (t *tarStream) regular(ctx context.Context, h *tar.Header, m *member) error {
	f, size, err := m.open()
	if err != nil {
		return err
	}
	defer f.Close()
	h.Typeflag, h.Size = tar.TypeReg, size
	if err := t.header(h); err != nil {
		return err
	}
	if t.buf == nil {
		t.buf = make([]byte, 128<<10)
	}
	for left := size; left > 0 && err == nil; {
		var n int
		if n, err = io.ReadFull(f, t.buf[:min(left, int64(len(t.buf)))]); err == nil {
			_, err = t.w.Write(t.buf[:n])
		} else if n < len(t.buf) && (err == io.EOF || err == io.ErrUnexpectedEOF) {
			err = errors.New("has become shorter meanwhile")
		}
		if err == nil {
			err = ctx.Err()
		}
		left -= int64(n)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}
