drop index sandboxes_unsettled;
