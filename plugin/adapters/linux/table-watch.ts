/**
 * {@link TableWatchPort} over the notifications of nf_tables (NFNLGRP_NFTABLES): a reloaded firewall that
 * takes our tables away is an event, not a discovery.
 */
import type { TableWatchPort } from "../../driver/ports.js";
import { NFNLGRP_NFTABLES, tableOfDeletion } from "../../wire/netlink/nftables.js";
import { NETLINK_NETFILTER, type Subscription, subscribe } from "./netlink.js";

/** A large ruleset that is replaced makes thousands of notifications in a row. */
const RECEIVE_BUFFER = 1 << 20;

export const tableWatchAdapter = (): TableWatchPort => ({
  watch(tables, onDeletion, onChange) {
    const subscription: Subscription = subscribe(
      [NFNLGRP_NFTABLES],
      RECEIVE_BUFFER,
      {
        onMessage: (m) => {
          const table = tableOfDeletion(m);
          if (table !== undefined && tables.includes(table)) onDeletion();
          onChange();
        },
        onOverrun: () => {
          subscription.discard();
          subscription.resume();
          onDeletion();
          onChange();
        },
      },
      NETLINK_NETFILTER,
    );
    subscription.resume();
    return { close: () => subscription.close() };
  },
});
