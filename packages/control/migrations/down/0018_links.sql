drop table sign_in_links;
delete from api_keys where of_browser;
alter table api_keys drop column of_browser;
