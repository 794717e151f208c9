// Package resctrl is one container's group in the kernel's resctrl file system
// (Documentation/filesystems/resctrl.rst), which shares out the last-level cache and the
// bandwidth to memory: where it lies, its schemata, its counters, how it goes away. What
// the names mean to a container is in linux.intelRdt of the specification.
//
//	/sys/fs/resctrl/            the default class, the host's
//	  info/                     what the hardware can do
//	  schemata, tasks, mon_data
//	  mon_groups/<id>/          counters of a container in the default class
//	  <class>/                  a class: named by closID, or the container's own
//	    schemata, tasks, mon_data
//	    mon_groups/<id>/
//
// A process enters by writing "0" to each of Tasks, in that order: that moves the writer,
// who need not know its pid (rdtgroup_tasks_write), and its later children are born there.
// Removing a group moves those in it to the one above.
package resctrl
